"""Every format that edgedet reads: its seeds, its mutators, and the reading that a command does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgedet_runtime.errors import EdgedetError
from tests.fuzz.case import Bounds, Format
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.documents import JSON, YAML
from tests.fuzz.mutate.pickles import PICKLE, pickle_opcodes
from tests.fuzz.mutate.pictures import PICTURE
from tests.fuzz.mutate.protobufs import PROTOBUF
from tests.fuzz.mutate.signatures import SIGNATURE
from tests.fuzz.mutate.tensors import SAFETENSORS, WEIGHTS, numpy_header
from tests.fuzz.mutate.texts import LINES, XML
from tests.fuzz.mutate.zips import archive
from tests.fuzz.seeds import checkpoints, datasets, models, pictures

__all__ = ["FORMATS"]

_SMALL = Bounds(64 << 20, 64)
"""For texts, which a whole library need not be loaded for."""
_PICTURE = Bounds(1 << 30, 2400)
"""A picture may be far larger than its file; see `edgedet_runtime.pictures` for how far."""


def _checkpoint(folder: Path) -> None:
    """Read it as ``inspect`` and ``export`` do."""
    from edgedet_models.checkpoint import read_checkpoint
    from edgedet_models.families import load

    checkpoint = read_checkpoint(_first(folder, "seed.*", "net.weights", "net.cfg"))
    checkpoint.tensors()
    load(checkpoint)


def _model_file(folder: Path) -> None:
    """Read what the runtime reads of a model file before an engine opens it."""
    from edgedet_runtime.bundle.model_files import find_model_file
    from edgedet_runtime.profiling.onnx_listing import read_listing

    path = _first(folder, "model.xml", "model.onnx")
    listing = [lambda: read_listing(path)] if path.suffix == ".onnx" else []
    _every(*listing, lambda: find_model_file(path))


def _bundle(folder: Path) -> None:
    """Read a bundle as ``doctor`` and ``detect`` do, up to the engine; the device's key is set."""
    from edgedet_runtime.bundle.golden import read_golden
    from edgedet_runtime.bundle.keys import KEY_VARIABLE
    from edgedet_runtime.bundle.manifest import read_manifest, verify_bundle
    from edgedet_runtime.bundle.model_files import find_model_file
    from edgedet_runtime.bundle.plan import read_plan
    from edgedet_runtime.bundle.trust import require_trusted
    from edgedet_runtime.state_folder import STATE_VARIABLE

    bundle = folder / "bundle"

    def as_a_device() -> None:
        os.environ |= {KEY_VARIABLE: str(folder / "key.pub"), STATE_VARIABLE: str(folder / "state")}
        try:
            _every(lambda: require_trusted(bundle), lambda: find_model_file(bundle))
        finally:
            del os.environ[KEY_VARIABLE]

    _every(
        lambda: read_plan(bundle),
        lambda: read_golden(bundle, ("blue", "green", "red")),
        lambda: read_manifest(bundle).to_json(),
        lambda: verify_bundle(bundle),
        lambda: find_model_file(bundle),
        *((as_a_device,) if (folder / "key.pub").is_file() else ()),
    )


def _spec(folder: Path) -> None:
    from edgedet_runtime.spec import ModelSpec

    text = _first(folder, "spec.json").read_text(encoding="utf-8", errors="surrogateescape")
    ModelSpec.from_json(text).to_json()


def _picture(folder: Path) -> None:
    """Read a folder of pictures as ``detect`` does, and its pictures as calibration does."""
    from edgedet_runtime.pictures import decode_image, list_folder, read_image

    (path,) = list_folder(folder).pictures or (_first(folder, "*"),)
    _every(lambda: decode_image(path.read_bytes(), path.name, half=True), lambda: read_image(path))


def _dataset(folder: Path) -> None:
    """Read a set as training, evaluation and calibration do."""
    from edgedet_export.quantize.images import picture_paths
    from edgedet_runtime.labelled import load_dataset

    path = _first(folder, "data.yaml", "set.json")
    _every(
        lambda: picture_paths(path),
        lambda: load_dataset(path, split="train"),
        lambda: load_dataset(path, split=("val", "test")),
    )


def _training_log(folder: Path) -> None:
    from edgedet.comparison.training_log import read_curve

    read_curve(folder)


def _every(*reads: Callable[[], object]) -> None:
    """Read all of several parts, then raise the first refusal: one part's shall not hide the others' faults."""
    refusals = []
    for read in reads:
        try:
            read()
        except EdgedetError as e:
            refusals.append(e)
    for refusal in sorted(refusals, key=lambda e: "\n" not in str(e)):
        raise refusal


def _first(folder: Path, *patterns: str) -> Path:
    """Return the first file that there is, else where the first should be: a reader must bear its absence."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            return path
    return folder / patterns[0].replace("*", "x")


_NPZ = archive({".npy": numpy_header}, share=1.5)

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("torch-zip", checkpoints.zipped, {".pt": archive({".pkl": pickle_opcodes}, share=2.0)}, _checkpoint),
        Format("torch-legacy", checkpoints.legacy, {".pth": PICKLE}, _checkpoint),
        Format("pickle", checkpoints.plain_pickles, {".pkl": PICKLE}, _checkpoint),
        Format("safetensors", checkpoints.safetensors, {".safetensors": SAFETENSORS}, _checkpoint),
        Format("darknet", checkpoints.darknet, {".cfg": LINES, ".weights": WEIGHTS, ".names": LINES}, _checkpoint),
        Format("onnx", models.onnx_files, {".onnx": PROTOBUF, ".bin": BLOCKS}, _model_file),
        Format("ir", models.irs, {".xml": XML, ".bin": BLOCKS}, _model_file),
        Format("manifest", models.manifests, {"manifest.json": JSON}, _bundle),
        Format("plan", models.bundles, {"plan.json": JSON}, _bundle),
        Format("signature", models.bundles, {"manifest.sig": SIGNATURE, "key.pub": LINES}, _bundle),
        Format("seen-versions", models.bundles, {"versions.json": JSON}, _bundle),
        Format("golden", models.bundles, {"golden.npz": _NPZ}, _bundle),
        Format("spec", models.specs, {".json": JSON}, _spec, _SMALL),
        Format("picture", pictures.pictures, {"": PICTURE}, _picture, _PICTURE),
        Format("data-yaml", datasets.yolo, {"data.yaml": YAML}, _dataset),
        Format("picture-list", datasets.yolo, {"list.txt": LINES}, _dataset),
        Format("labels", datasets.yolo, {**{f"{i}.txt": LINES for i in range(3)}, ".txt": ()}, _dataset),
        Format("coco", datasets.coco, {"set.json": JSON}, _dataset),
        Format("training-log", datasets.training_logs, {".jsonl": JSON}, _training_log, _SMALL),
    )
}
