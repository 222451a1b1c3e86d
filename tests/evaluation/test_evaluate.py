"""evaluate(): class mapping, thresholds put back, errors; with a detector that answers from a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgedet.evaluation import evaluate, load_dataset
from edgedet_runtime.detections import Detections
from edgedet_runtime.detector import Detector
from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import Thresholds


class TableDetector:
    """Knows where things are; stands in for `Detector`, of which evaluate() uses these attributes only."""

    engine_name = "table"
    precision = "fp32"

    def __init__(self, classes: tuple[str, ...], answer: Detections) -> None:
        self.spec = SimpleNamespace(classes=classes)
        self.thresholds = Thresholds(conf=0.4)
        self.answer = answer
        self.seen: list[Thresholds] = []

    def __call__(self, image_bgr: npt.NDArray[np.uint8]) -> Detections:
        self.seen.append(self.thresholds)
        return self.answer


def dataset(root: Path) -> Path:
    (root / "images").mkdir()
    (root / "labels").mkdir()
    cv2.imwrite(str(root / "images/a.png"), np.zeros((100, 200, 3), np.uint8))
    (root / "labels/a.txt").write_text("0 0.25 0.5 0.25 0.5\n")
    (root / "data.yaml").write_text("val: images\nnames: [dog]\n")
    return root / "data.yaml"


def answer(*rows: tuple[tuple[float, ...], float, int]) -> Detections:
    return Detections(
        np.array([r[0] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[1] for r in rows], np.float32),
        np.array([r[2] for r in rows], np.int64),
        ("cat", "dog"),
    )


def test_relative_labels_and_class_ids_meet_the_models(tmp_path: Path) -> None:
    right = ((25.0, 25.0, 75.0, 75.0), 0.9, 1)
    other_class = ((0.0, 0.0, 9.0, 9.0), 0.95, 0)  # not in the set: counts neither way
    detector = TableDetector(("cat", "dog"), answer(other_class, right))
    told: list[tuple[int, int]] = []
    data = load_dataset(dataset(tmp_path))
    result = evaluate(cast(Detector, detector), data, progress=lambda i, n: told.append((i, n)))
    assert result.figures.ap == pytest.approx(1.0)
    assert result.figures.best is not None
    assert result.figures.best.precision == 1.0
    assert told == [(1, 1)]
    assert detector.seen[0].conf == 0.001
    assert detector.seen[0].iou == 0.65
    assert detector.seen[0].max_det == 1000  # COCO's limit of 100 is per class, so the picture's must not bite first
    assert detector.thresholds == Thresholds(conf=0.4)
    assert (result.pictures, result.objects, result.engine) == (1, 1, "table")


def test_to_dict_is_json_with_the_figures_on_top(tmp_path: Path) -> None:
    detector = TableDetector(("cat", "dog"), answer(((25.0, 25.0, 75.0, 75.0), 0.9, 1)))
    result = evaluate(cast(Detector, detector), load_dataset(dataset(tmp_path)))
    data: dict[str, Any] = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    names = {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100"}
    assert names <= set(data)
    assert data["ap_small"] is None
    assert data["per_class"] == {"dog": pytest.approx(1.0)}
    assert data["best_f1"]["f1"] == 1.0
    assert data["settings"] == {"conf": 0.001, "iou": 0.65, "max_det": 100, "multi_label": False}


def test_unreadable_picture_and_foreign_classes(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    data = load_dataset(path)
    detector = TableDetector(("cat", "dog"), answer())
    (tmp_path / "images/a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png"):
        evaluate(cast(Detector, detector), data)
    assert detector.thresholds == Thresholds(conf=0.4)
    with pytest.raises(InputError, match="dog"):
        evaluate(cast(Detector, TableDetector(("cat", "bird"), answer())), data)


def test_result_is_frozen(tmp_path: Path) -> None:
    detector = TableDetector(("cat", "dog"), answer())
    result = evaluate(cast(Detector, detector), load_dataset(dataset(tmp_path)))
    assert result.figures.ap == 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.pictures = 3  # type: ignore[misc]
