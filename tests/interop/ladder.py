"""Every official checkpoint through the whole way, judged against what the official code computed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

import edgedet_models
from edgedet_export.alignment import align
from edgedet_export.config import ExportConfig, Head
from edgedet_export.fuse import fuse
from edgedet_export.pipeline import export
from edgedet_export.stages import Stage, onnx_stage, openvino_stage
from edgedet_models.detector import DetectorModule
from edgedet_runtime import Detections, Detector
from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.doctor.matching import detections_differ
from edgedet_runtime.nms import nms
from edgedet_runtime.spec import ModelSpec
from tests.runtime.official_fixtures import DARKNET_FIXTURES, RTMDET_FIXTURES, Reference, load_reference

__all__ = ["FixtureResult", "checkpoint_of", "run_fixture"]

Array = npt.NDArray[Any]

UNFUSED, FUSED, BOX_PX, SCORE = 1e-4, 1e-3, 0.05, 1e-3
"""Tolerances: relative on raw outputs before and after fusing; pixels and score on detections."""


@dataclass(frozen=True, slots=True)
class FixtureResult:
    """One row of the table: largest differences from the official code, relative to ``max(1, |value|)``.

    Attributes:
        name: The fixture.
        params: Parameters as loaded.
        torch_unfused: Raw outputs of the module as loaded.
        torch_fused: Raw outputs after the fuse passes.
        onnx: Raw outputs of model.onnx in onnxruntime.
        openvino: Raw outputs of model.xml in OpenVINO, float32.
        detections: Official boxes after NMS, both pictures.
        detector: How `Detector` differs from them on each engine, None where it does not.
        modules: Leaf modules before and after fusing.
        int8: Share of FP32 detections that INT8 keeps, by engine; empty without INT8.
    """

    name: str
    params: int
    torch_unfused: float
    torch_fused: float
    onnx: float
    openvino: float
    detections: int
    detector: dict[str, str | None]
    modules: tuple[int, int]
    int8: dict[str, float]

    @property
    def passed(self) -> bool:
        """True if every figure is within its tolerance."""
        fused = max(self.torch_fused, self.onnx, self.openvino)
        found = not any(self.detector.values())
        return self.torch_unfused <= UNFUSED and fused <= FUSED and found


def checkpoint_of(folder: Path) -> Path:
    """Return a fixture's checkpoint file."""
    return next(p for p in sorted(folder.iterdir()) if p.stem == "checkpoint")


def _worst(spec: ModelSpec, got: Any, reference: Reference) -> float:
    expected = dict(zip(reference.decode.output_names, reference.raw, strict=True))
    spec_names = spec.decode.output_names
    got = align(spec, [expected[name] for name in spec_names], got)
    worst = 0.0
    for name, value in zip(spec_names, got, strict=True):
        want = expected[name].astype(np.float64)
        assert value.shape == want.shape, f"{name}: expected {want.shape}, got {value.shape}"
        worst = max(worst, float((np.abs(value - want) / np.maximum(1, np.abs(want))).max()))
    return worst


def _torch_worst(model: DetectorModule, inputs: Array, references: list[Reference]) -> float:
    with torch.no_grad():  # all pictures at once, as the official code: rounding depends on the batch
        raw = [o.numpy() for o in model(torch.from_numpy(inputs))]
    return max(_worst(model.spec, [o[i : i + 1] for o in raw], r) for i, r in enumerate(references))


def _pixels(inputs: Array, model: DetectorModule) -> list[npt.NDArray[np.uint8]]:
    """Undo the network's normalization: float NCHW to the camera's uint8 BGR pictures of the input's size."""
    spec = model.spec.input
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
    exact = (inputs.astype(np.float64) * std + mean) / spec.scale
    rounded = exact.round()
    assert np.abs(exact - rounded).max() < 1e-2, "the reference input is not made of 8-bit pixels"
    pictures = rounded.astype(np.uint8).transpose(0, 2, 3, 1)
    return [np.ascontiguousarray(p if spec.color == "BGR" else p[..., ::-1]) for p in pictures]


def _expected(name: str, folder: Path, reference: Reference, image: int, model: DetectorModule) -> Detections:
    """Official detections.

    For darknet, NMS over real darknet's boxes, since nms.npz comes from OpenCV's importer; for RTMDet, NMS over the
    official raw outputs, since mmdet drops and clips boxes before NMS.
    """
    names = model.spec.classes
    if name in (*DARKNET_FIXTURES, *RTMDET_FIXTURES):
        multi_label = next(iter(reference.expected))
        found = decode_outputs(reference.raw, reference.decode, conf=reference.thresholds.conf, multi_label=multi_label)
        kept = nms(found.boxes_xyxy, found.scores, found.class_ids, iou=reference.thresholds.iou)
        boxes = np.clip(found.boxes_xyxy[kept], 0, np.array(model.spec.input.size_hw[::-1] * 2, np.float32))
        return Detections(boxes, found.scores[kept], found.class_ids[kept], names)
    boxes, scores, classes = next(iter(reference.expected.values()))
    order = np.argsort(-scores, kind="stable")
    clip = np.clip(boxes, 0, np.array(model.spec.input.size_hw[::-1] * 2))
    return Detections(
        clip[order].astype(np.float32), scores[order].astype(np.float32), classes[order].astype(np.int64), names
    )


def run_fixture(folder: Path, work: Path, *, int8: bool = False, calib: Path | None = None) -> FixtureResult:
    """Take one fixture all the way.

    Args:
        folder: The fixture; the head that is meant may follow an ``@``.
        work: Empty folder for the bundle.
        int8: Quantise as well and measure agreement.
        calib: Calibration pictures.
    """
    name = folder.name
    base, _, head = name.partition("@")
    folder = folder.with_name(base)
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "reference.npz") as file:
        inputs = file["input"].astype(np.float32)
    references = [load_reference(folder.parent, name, i) for i in range(len(inputs))]
    if name in DARKNET_FIXTURES:
        references = [_with_darknet_raw(folder, r, i) for i, r in enumerate(references)]
    limits = references[0].thresholds
    chosen = cast("Head | None", head or None)
    model = edgedet_models.load(edgedet_models.read_checkpoint(checkpoint_of(folder)), head=chosen)
    size = (int(inputs.shape[2]), int(inputs.shape[3]))
    model.spec = model.spec.with_size(*size)
    unfused = _torch_worst(model, inputs, references)
    fused, report = fuse(model, model.dummy_input())
    config = ExportConfig(
        out=work / name,
        head=chosen,
        imgsz=size,
        conf=limits.conf,
        iou=limits.iou,
        int8=int8,
        calib=calib,
        max_drop=100.0,
    )
    export(checkpoint_of(folder), config)
    pictures = _pixels(inputs, model)
    spec = read_spec(work / name / "model.onnx")

    def worst(stage: Stage) -> float:
        return max(_worst(spec, raw, reference) for raw, reference in zip(stage(pictures), references, strict=True))

    multi_label = next(iter(references[0].expected))
    differences: dict[str, str | None] = {}
    kept: dict[str, float] = {}
    count = 0
    for engine in ("onnxruntime", "openvino"):
        detector = Detector(work / name, engine=engine, precision="fp32", threads=1, multi_label=multi_label)
        phrases = []
        for i, picture in enumerate(pictures):
            want = _expected(name, folder, references[i], i, model)
            count += len(want) if engine == "onnxruntime" else 0
            phrases.append(detections_differ(want, detector(picture), box_px=BOX_PX, score=SCORE, unsure=[limits.conf]))
        differences[engine] = next((p for p in phrases if p), None)
        if int8:
            quantised = Detector(work / name, engine=engine, precision="int8", threads=1, multi_label=multi_label)
            kept[engine] = float(np.mean([_kept(detector(p), quantised(p)) for p in pictures]))
    return FixtureResult(
        name=name,
        params=int(meta["params"]),
        torch_unfused=unfused,
        torch_fused=_torch_worst(fused, inputs, references),
        onnx=worst(onnx_stage("onnx", work / name / "model.onnx", spec)),
        openvino=worst(openvino_stage("openvino", work / name / "openvino/model.xml", spec)),
        detections=count,
        detector=differences,
        modules=(report.modules_before, report.modules_after),
        int8=kept,
    )


def _kept(expected: Detections, got: Detections) -> float:
    """Return the share of expected boxes that have a box of their class with IoU 0.5 or more."""
    if not len(expected):
        return 1.0
    hits = 0
    for box in expected:
        same = got.boxes_xyxy[got.class_ids == box.class_id]
        if len(same):
            x0, y0, x1, y1 = box.xyxy
            w = np.minimum(same[:, 2], x1) - np.maximum(same[:, 0], x0)
            h = np.minimum(same[:, 3], y1) - np.maximum(same[:, 1], y0)
            inter = np.maximum(w, 0) * np.maximum(h, 0)
            union = (same[:, 2] - same[:, 0]) * (same[:, 3] - same[:, 1]) + (x1 - x0) * (y1 - y0) - inter
            hits += bool((inter >= 0.5 * union).any())
    return hits / len(expected)


def _with_darknet_raw(folder: Path, reference: Reference, image: int) -> Reference:
    """Replace OpenCV's raw outputs (BatchNorm epsilon 1e-6) by those with darknet's own epsilon."""
    with np.load(folder / "reference.npz") as file:
        levels = len(reference.decode.levels)
        arrays = [file[f"raw_{i}_eps1e5"][image : image + 1] for i in range(levels)]
    raw: list[Array] = []
    for level, array in zip(reference.decode.levels, arrays, strict=True):
        anchors = len(level.anchors_px)
        _, channels, h, w = array.shape
        parts = array.reshape(1, anchors, channels // anchors, h, w)
        raw += [
            parts[:, :, :4].reshape(1, -1, h, w),
            parts[:, :, 4].reshape(1, anchors, h, w),
            parts[:, :, 5:].reshape(1, -1, h, w),
        ]
    return dataclasses.replace(reference, raw=tuple(np.ascontiguousarray(a) for a in raw))
