"""``edgedet inspect``: what is in a bundle, model file or checkpoint; nothing of it is executed."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedet import output
from edgedet.commands.numbers import PIXELS, number
from edgedet.commands.options import Json, engine_option
from edgedet_runtime.choices import EngineName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from edgedet_runtime import ModelSpec

__all__ = ["inspect"]

FAMILIES_SHOWN = 20


def inspect(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help="Bundle, .onnx, .xml, or a training checkpoint.")],
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Of an exported model: what INT8 does to each layer alone.")
    ] = False,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            parser=engine_option,
            metavar="NAME",
            help="With --sensitivity: onnxruntime or openvino.",
        ),
    ] = None,
    calib: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --sensitivity: pictures like those of the device.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="With --sensitivity: draw it here.")] = None,
    draft: Annotated[
        bool,
        typer.Option("--draft-spec", help="Of an ONNX file: print a spec for `edgedet export --spec`, questions open."),
    ] = False,
    imgsz: Annotated[
        tuple[int, int] | None,
        number(PIXELS, "With --draft-spec: size, where the file leaves it open.", metavar="H W"),
    ] = None,
    json: Json = False,
) -> None:
    """Say what a model or checkpoint is, executing nothing of it."""
    from edgedet_runtime.errors import InputError

    if not path.exists():
        raise InputError(f"{path}: expected a bundle, model file or checkpoint, got nothing there")
    if draft:
        _draft(path, imgsz)
        return
    if sensitivity:
        _sensitivity(path, engine, calib, picture, json)
        return
    if engine or calib or picture:
        raise InputError("--engine, --calib and --picture go with --sensitivity")
    if path.is_dir():
        found = _bundle(path)
    elif path.suffix.lower() in (".onnx", ".xml"):
        found = _model_file(path)
    else:
        found = _checkpoint(path)
    if json:
        output.document(found)
    else:
        own_tables = ("quantization", "parity")
        output.table(["", ""], [[key, _text(value)] for key, value in found.items() if key not in own_tables])
        if found["kind"] == "bundle":
            _show_bundle(path)


def _draft(path: Path, imgsz: tuple[int, int] | None) -> None:
    from edgedet.extras import require
    from edgedet_runtime.errors import InputError

    if path.suffix.lower() != ".onnx":
        raise InputError(f"{path}: expected an ONNX file for --draft-spec, got another kind")
    require("onnx", "onnxruntime", "torch", extra="export", purpose="edgedet inspect --draft-spec")
    from edgedet_export.foreign import draft_spec

    output.document(draft_spec(path, imgsz=imgsz))


def _sensitivity(path: Path, engine: EngineName | None, calib: Path | None, picture: Path | None, json: bool) -> None:
    from edgedet.commands.sensitivity import layer_sensitivity, save_picture

    with output.progress_bar("INT8, layer by layer") as step:
        layers = layer_sensitivity(path, engine=engine, calib=calib, progress=lambda text: step(description=text))
    if picture is not None:
        save_picture(layers, picture)
    if json:
        output.document({"model": str(path), "layers": [asdict(layer) for layer in layers]})
        return
    columns = ["layer", "effect", "MMACs", "input range", "SQNR dB", "worst channel dB", "channels < 10 dB", "outliers"]
    rows = [
        [
            layer.layer,
            f"{layer.effect:.4f}",
            f"{layer.macs / 1e6:.1f}",
            f"{layer.low:.2f} … {layer.high:.2f}",
            f"{layer.sqnr_db:.1f}",
            f"{layer.worst_channel_db:.1f}",
            f"{layer.poor_channels:.0%}",
            f"{layer.outlier_ratio:.1f}x",
        ]
        for layer in layers
    ]
    output.table(columns, rows, title="each layer alone in INT8, most sensitive first", numeric=columns[1:])


def _bundle(folder: Path) -> dict[str, Any]:
    from edgedet_runtime.bundle.manifest import read_manifest
    from edgedet_runtime.bundle.model_files import read_spec
    from edgedet_runtime.bundle.slot_state import current_bundle

    folder = current_bundle(folder)
    manifest = read_manifest(folder)
    spec = _spec(read_spec(folder / manifest.models[0].path)) if manifest.models else {}
    said = manifest.to_dict()
    plain = ("trained", "source", "complexity", "files", "recommended", "parity", "quantization", "tools", "notes")
    return {"kind": "bundle", **spec, **{key: said[key] for key in plain}}


def _model_file(path: Path) -> dict[str, Any]:
    from edgedet_runtime.bundle.model_files import read_spec
    from edgedet_runtime.errors import ModelFileError

    size = {"kind": "ONNX model" if path.suffix.lower() == ".onnx" else "OpenVINO IR", "bytes": path.stat().st_size}
    try:
        return size | _spec(read_spec(path))
    except ModelFileError:
        if path.suffix.lower() != ".onnx":
            raise
        from edgedet_runtime.licence_text import licence_of
        from edgedet_runtime.onnx_file import onnx_summary

        summary = onnx_summary(path)
        return size | {
            "spec": "none: a foreign file; `edgedet export` reads its heads",
            "quantised": summary.is_quantized,
            "operators": sorted(summary.op_types),
            "licence": licence_of(summary.metadata) or "unknown",
            "metadata": dict(summary.metadata),
        }


def _checkpoint(path: Path) -> dict[str, Any]:
    from edgedet.extras import require

    require("torch", extra="export", purpose="inspecting a training checkpoint")
    from edgedet_models import families
    from edgedet_models.checkpoint import read_checkpoint
    from edgedet_models.checkpoint.stated_licence import stated_licence
    from edgedet_runtime.errors import CheckpointError

    checkpoint = read_checkpoint(path)
    found = families.recognise(checkpoint)
    weights = checkpoint.weights
    tensors = weights.tensors
    facts: dict[str, Any] = {
        "kind": "training checkpoint",
        "format": checkpoint.format,
        "bytes": path.stat().st_size,
        "sha256": checkpoint.sha256,
        "numbers": sum(tensor.numel() for tensor in tensors.values()),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}),
        "weights": weights.words,
        **_non_finite(tensors),
    }
    if not found:
        if not tensors:
            raise CheckpointError(f"{path}: expected weights of a detector, got a file without any")
        why = (
            f"no known family fits; export it to ONNX with its own code and run `edgedet export {path.stem}.onnx`, or"
            " use edgedet.export(module, spec) from Python"
        )
        return facts | {"family": None, "why": why}
    certain = [r for r in found if r.certain] or found
    best = certain[0]
    return facts | {
        "family": best.family,
        "variant": best.variant,
        "classes": list(best.classes),
        "licence": stated_licence(checkpoint) or families.get_family(best.family).LICENCE,
        "why": best.why,
        "also": [{"family": r.family, "variant": r.variant, "why": r.why} for r in found if r is not best],
        **({"note": "more than one family fits: name one with --family"} if len(certain) > 1 else {}),
    }


def _non_finite(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the tensors that hold NaN or infinity, where there are some; no export is possible then."""
    from edgedet_models.checkpoint.leftovers import non_finite

    found = [{"tensor": name, "NaN or infinite": bad, "of": of} for name, (bad, of) in non_finite(tensors).items()]
    return {"damaged": found} if found else {}


def _spec(spec: ModelSpec) -> dict[str, Any]:
    return {
        "family": spec.family,
        "variant": spec.variant,
        "classes": list(spec.classes),
        "input": json_module.loads(spec.to_json())["input"],
        "resize": json_module.loads(spec.to_json())["resize"],
        "decode": spec.decode.kind,
        "suppression": spec.decode.suppression,
        "strides": [level.stride for level in spec.decode.levels],
        "thresholds": json_module.loads(spec.to_json())["thresholds"],
        "licence": spec.licence,
        "spec_version": spec.spec_version,
        "tool_version": spec.tool_version,
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_text(v)}" for key, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join("  ".join(f"{k} {_text(v)}" for k, v in entry.items() if v not in ("", [])) for entry in value)
    if isinstance(value, list):
        shown = ", ".join(str(v) for v in value[:FAMILIES_SHOWN])
        return shown + (f", … ({len(value)})" if len(value) > FAMILIES_SHOWN else "")
    return "" if value is None else str(value)


def _show_bundle(folder: Path) -> None:
    from edgedet.commands.int8_tables import show_int8
    from edgedet.commands.rung_table import show_rungs
    from edgedet_runtime.bundle.manifest import read_manifest

    manifest = read_manifest(folder)
    show_rungs(manifest.parity)
    show_int8(manifest.quantization)
