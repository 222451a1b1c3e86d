"""Classic detectors' official checkpoints through every stage, judged on the official code's own input tensors.

torchvision and its like normalize before they resize, so that their inputs are not made of 8-bit pixels: the model is
exported with a float32 input here, and the official tensor is what every stage gets. Detections are those of
`postprocess`, as in `Detector`, with the geometry of the fixture's source picture, against the official boxes in that
picture's pixels. How `Detector` makes that tensor from the picture is judged apart, in each family's tests.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import edgedet_models
from edgedet_export.config import ExportConfig
from edgedet_export.fuse import fuse
from edgedet_export.pipeline import export
from edgedet_export.stages import Stage, onnx_stage, openvino_stage, torch_stage
from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.doctor.matching import detections_differ
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from tests.interop.classic_fixtures import ClassicFixture, official_detections, official_raw

__all__ = ["ClassicResult", "run_classic_fixture"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ClassicResult:
    """One row of the table: largest differences from the official code, relative to ``max(1, |value|)``.

    Attributes:
        name: The fixture.
        raw: Raw outputs by stage: unfused, fused, onnxruntime, openvino.
        detections: Official boxes, both pictures.
        differences: How the detections of each stage differ from them, None where they do not.
        limit: Largest `raw` that is right: 1e-4, or five times the official path's own error where that is larger.
    """

    name: str
    raw: dict[str, float]
    detections: int
    differences: dict[str, str | None]
    limit: float

    @property
    def passed(self) -> bool:
        """True if every figure is within its tolerance; fused stages may round ten times as much."""
        raw = all(value <= self.limit * (1 if stage == "unfused" else 10) for stage, value in self.raw.items())
        return raw and not any(self.differences.values())


def checkpoint_file(folder: Path, work: Path) -> Path:
    """Return the fixture's checkpoint, unpacked into `work` where it is packed."""
    packed = folder / "checkpoint.pth.xz"
    if not packed.exists():
        return next(p for p in sorted(folder.iterdir()) if p.stem == "checkpoint")
    path = work / "checkpoint.pth"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    return path


def run_classic_fixture(fixture: ClassicFixture, fixtures: Path, work: Path) -> ClassicResult:
    """Take one fixture from its checkpoint to detections, in torch and in both engines."""
    folder = fixtures / fixture.name
    meta = json.loads((folder / "meta.json").read_text())
    verified = json.loads((folder / "verified.json").read_text())
    reference = dict(np.load(folder / "reference.npz"))
    pictures, nms = dict(np.load(folder / "preproc.npz")), dict(np.load(folder / "nms.npz"))
    inputs = reference["input"].astype(np.float32)
    checkpoint = checkpoint_file(folder, work)
    model = edgedet_models.load(edgedet_models.read_checkpoint(checkpoint))
    model.spec = model.spec.with_size(*(int(side) for side in inputs.shape[2:]))
    fused, _ = fuse(model, model.dummy_input())
    export(checkpoint, ExportConfig(out=work / "bundle", imgsz=model.spec.input.size_hw, input="float32"))
    spec = read_spec(work / "bundle/model.onnx")
    stages = [
        torch_stage("unfused", model),
        torch_stage("fused", fused),
        onnx_stage("onnxruntime", work / "bundle/model.onnx", spec),
        openvino_stage("openvino", work / "bundle/openvino/model.xml", spec),
    ]
    official = meta["thresholds"]
    used = official["official"] | official.get("used_for_nms_npz", official.get("nms_npz", {}))
    limits = dataclasses.replace(
        spec.thresholds, conf=used["score"], iou=used.get("iou", 1.0), max_det=used.get("max", 100)
    )
    told = verified.get("onnx_raw_max_rel", 0.0)
    limit = max(1e-4, 5 * (max(told.values()) if isinstance(told, dict) else told))
    # sizes are exponentials, so that noise of a raw size moves each edge by half of it, in shares of the side
    box_px, score = max(0.05, limit / 2 * max(inputs.shape[2:])), max(1e-3, limit / 4)
    raw, differences = {}, {}
    for stage in stages:
        worst, phrases = 0.0, []
        for i in range(len(inputs)):
            outputs = _run(stage, inputs[i : i + 1])
            expected = official_raw(fixture, reference, stage.spec, i, [o.shape for o in outputs])
            for ours, theirs in zip(outputs, expected, strict=True):
                assert ours.shape == theirs.shape
                worst = max(worst, float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max()))
            picture = pictures[f"image{i}_rgb" if f"image{i}_rgb" in pictures else f"image{i}_bgr"]
            fit = Letterbox.fit(picture.shape[:2], stage.spec.input.size_hw, stage.spec.resize)
            if fixture.centernet:  # its scale goes by the input's width, whatever its height
                fit = _about_the_middle(fit)
            found = postprocess([o.astype(np.float32) for o in outputs], fit, stage.spec, limits)
            want = official_detections(fixture, nms, i, stage.spec.classes)
            if fixture.centernet:  # it does not cut boxes at the picture
                edge = np.array(fit.image_hw[::-1] * 2, np.float32)
                want = dataclasses.replace(want, boxes_xyxy=np.clip(want.boxes_xyxy, 0, edge))
            if fixture.default_thresholds:  # the worst of a full list is where ours may go on
                limits = dataclasses.replace(limits, conf=float(want.scores[-1]), max_det=1000)
                found = postprocess([o.astype(np.float32) for o in outputs], fit, stage.spec, limits)
            phrases.append(detections_differ(want, found, box_px=box_px, score=score, unsure=[limits.conf]))
        raw[stage.name], differences[stage.name] = worst, next((p for p in phrases if p), None)
    count = sum(len(official_detections(fixture, nms, i, spec.classes)) for i in range(len(inputs)))
    return ClassicResult(fixture.name, raw, count, differences, limit)


def _about_the_middle(fit: Letterbox) -> Letterbox:
    """Return the geometry of CenterNet's affine warp, which differs from ours on inputs that are not square."""
    (h, w), (in_h, in_w) = fit.image_hw, fit.input_hw
    gain = in_w / max(h, w)
    return dataclasses.replace(fit, gain_xy=(gain, gain), pad_xy=((in_w - w * gain) / 2, (in_h - h * gain) / 2))


def _run(stage: Stage, tensor: Array) -> list[Array]:
    with torch.no_grad():
        return [np.asarray(output, np.float64) for output in stage.run(np.ascontiguousarray(tensor))]
