"""The last check of an export finds differences, and does not take rounding for one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgedet_export.final_check import check_detections, detections_differ
from edgedet_export.graph.conversion import set_metadata
from edgedet_export.parity import Noise
from edgedet_export.pictures import probe_picture
from edgedet_export.to_onnx import to_onnx
from edgedet_runtime import Detections
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec
from tests.export.tiny import CLASSES, TinyDetector, tiny_spec


def found(*scores: float) -> Detections:
    boxes = np.arange(4 * len(scores), dtype=np.float32).reshape(-1, 4) * 10
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64), CLASSES)


@pytest.mark.parametrize(
    ("got", "unsure", "differs"),
    [
        (found(0.9, 0.5, 0.3), (), False),
        (found(0.9, 0.502, 0.3), (), True),
        (found(0.9, 0.5), (), True),
        (found(0.9, 0.5), (0.25,), True),
        (found(0.9, 0.5), (0.25, 0.3005), False),
        (found(0.9, 0.5, 0.3, 0.25), (0.25,), False),
        (found(0.9, 0.5, 0.3, 0.26), (0.25,), True),
    ],
)
def test_table(got: Detections, unsure: tuple[float, ...], differs: bool) -> None:
    phrase = detections_differ(found(0.9, 0.5, 0.3), got, box_px=0.1, score=1e-3, unsure=unsure)
    assert (phrase is not None) == differs


def saturated(max_det: int) -> ModelSpec:
    spec = tiny_spec("dfl")
    limits = dataclasses.replace(spec.thresholds, max_det=max_det, iou=1.0)
    return spec.replace(thresholds=limits)


def write(folder: Path, name: str, spec: ModelSpec, shift: float = 0.0) -> Path:
    """Write a network whose every score is 1; `shift` moves its boxes' logits."""
    model = TinyDetector(spec)
    with torch.no_grad():
        for head in model.heads:
            head[-1].bias.fill_(100.0)  # type: ignore[index]
            head[0].bias[0] += shift  # type: ignore[index]
    proto = to_onnx(model)
    set_metadata(proto, "edgedet", spec.to_json())
    onnx.save(proto, str(folder / name))
    return folder / name


@pytest.mark.parametrize("max_det", [7, 999])
def test_which_of_many_equals_come_before_the_cut_is_no_difference(max_det: int, tmp_path: Path) -> None:
    """The same network with its levels named in another order breaks ties the other way."""
    spec = saturated(max_det)
    reference = write(tmp_path, "reference.onnx", spec)
    turned = spec.replace(decode=dataclasses.replace(spec.decode, levels=spec.decode.levels[::-1]))
    proto = onnx.load(str(reference))
    set_metadata(proto, "edgedet", turned.to_json())
    onnx.save(proto, str(tmp_path / "other.onnx"))
    files = [{"path": "other.onnx", "precision": "fp32", "engines": ["onnxruntime"]}]
    check_detections(tmp_path, files, [probe_picture((64, 96))], reference, Noise())


def test_a_moved_box_is_found(tmp_path: Path) -> None:
    spec = saturated(999)
    reference = write(tmp_path, "reference.onnx", spec)
    write(tmp_path, "other.onnx", spec, shift=0.5)
    files = [{"path": "other.onnx", "precision": "fp32", "engines": ["onnxruntime"]}]
    with pytest.raises(CheckFailedError, match="expected the detections of the raw heads"):
        check_detections(tmp_path, files, [probe_picture((64, 96))], reference, Noise())
