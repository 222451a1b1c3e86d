"""The whole way on a trained model: foreign ONNX → cut → Detector → COCO figures."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgedet.evaluation import evaluate_file, load_dataset

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def test_yolox_nano_keeps_its_ap(shared: Path, tmp_path: Path) -> None:
    """AP 0.340, AP50 0.497 by independent code: best class per cell, threshold 0.001, class-wise NMS 0.65."""
    from edgedet_export.foreign import import_onnx

    model, _ = import_onnx(shared / "weights/yolox-nano-onnx/yolox_nano.onnx", family="yolox")
    onnx.save(model, str(tmp_path / "model.onnx"))
    result = evaluate_file(tmp_path / "model.onnx", shared / "data/coco128/instances_val.json")
    assert (result.pictures, result.objects) == (128, 898)
    assert result.figures.ap == pytest.approx(0.340, abs=0.001)
    assert result.figures.ap50 == pytest.approx(0.497, abs=0.0005)


def test_both_formats_of_the_same_labels_agree(shared: Path) -> None:
    coco = load_dataset(shared / "data/coco128/instances_val.json")
    yolo = load_dataset(shared / "data/coco128/data.yaml")
    assert coco.classes == yolo.classes
    assert {p.path.name for p in coco.pictures} == {p.path.name for p in yolo.pictures}
    assert coco.objects == yolo.objects == 898
