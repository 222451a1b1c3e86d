"""Agreement of detections: 1 for the same, lower the more they differ."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet_export.quantize.agreement import Agreement, compare_detections, reference_conf
from edgedet_runtime.candidates import Candidates

from .tiny_detector import tiny_detector


def boxes(n: int, shift: float = 0.0, scores: float = 0.9) -> Candidates:
    left = np.arange(n, dtype=np.float32) * 100 + shift
    xyxy = np.stack([left, np.zeros(n), left + 50, np.full(n, 50)], 1).astype(np.float32)
    return Candidates(xyxy, np.linspace(scores, scores / 2, n).astype(np.float32), np.arange(n) % 2)


def test_same_detections_agree_fully() -> None:
    found = compare_detections([boxes(5), boxes(3)], [boxes(5), boxes(3)], 0.25)
    assert found.agreement == pytest.approx(1.0)
    assert (found.reference, found.matched, found.extra) == (8, 8, 0)
    assert found.score_shift == pytest.approx(0.0)
    assert found.threshold == 0.25, "all scores lie above it in both"


def test_boxes_without_area_agree_with_themselves() -> None:
    flat = boxes(5)
    flat.boxes_xyxy[:, 2] = flat.boxes_xyxy[:, 0]
    assert compare_detections([flat], [flat], 0.25).agreement == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("other", "agreement"),
    [
        (boxes(0), 0.0),
        (boxes(5, shift=50), 0.0),
        (boxes(5, shift=10), 4 / 10),
        (boxes(5, shift=2), 9 / 10),
        (boxes(5, shift=1), 1.0),
        (boxes(5).take(np.arange(4)), 81 / 101),
        (boxes(5).take(np.arange(1, 5)), 81 / 101),
        (boxes(6), 1.0),
    ],
    ids=[
        "nothing found",
        "all beside",
        "IoU 0.67",
        "IoU 0.92",
        "IoU 0.96",
        "last of five missed",
        "first missed",
        "one more",
    ],
)
def test_differences_lower_the_agreement(other: Candidates, agreement: float) -> None:
    """Ten IoU thresholds from 0.50 to 0.95, recalls 0.00 to 1.00."""
    assert compare_detections([boxes(5)], [other], 0.25).agreement == pytest.approx(agreement, abs=1e-6)


def test_a_false_detection_before_the_true_ones_costs_precision() -> None:
    """One wrong above four right ones: precision 1/2 to 4/5, interpolated to 4/5 at every recall."""
    right, wrong = boxes(4), Candidates(boxes(1).boxes_xyxy + 700, np.array([0.99], np.float32), np.array([0]))
    both = Candidates.concatenate([wrong, right])
    found = compare_detections([right], [both], 0.25)
    assert found.agreement == pytest.approx(0.8)
    assert (found.reference, found.matched, found.extra) == (4, 4, 1)


def test_scores_that_moved() -> None:
    reference, other = boxes(2), boxes(2)
    moved = Candidates(other.boxes_xyxy, other.scores + np.array([0.05, 0.01], np.float32), other.class_ids)
    found = compare_detections([reference], [moved], 0.25)
    assert found.score_shift == pytest.approx(0.03, abs=1e-6)
    assert found.score_spread == pytest.approx(0.02, abs=1e-6)


def test_wrong_class_does_not_match() -> None:
    wrong = Candidates(boxes(4).boxes_xyxy, boxes(4).scores, 1 - boxes(4).class_ids)
    found = compare_detections([boxes(4)], [wrong], 0.25)
    assert (found.agreement, found.matched, found.extra) == (0.0, 0, 4)


def test_threshold_keeps_the_operating_point() -> None:
    found = compare_detections([boxes(6, scores=0.9)], [boxes(6, scores=0.6)], 0.4)
    assert found.reference == 6
    assert int((boxes(6, scores=0.6).scores > found.threshold).sum()) == 6
    assert found.score_shift < -0.2


def test_nothing_to_find() -> None:
    assert compare_detections([boxes(0)], [boxes(0)], 0.25).agreement == 1.0
    assert compare_detections([boxes(0)], [boxes(2)], 0.25) == Agreement(0.0, 0.25, 0, 0, 2, 0.0, 0.0, 0.25)


def test_reference_conf_falls_to_one_per_picture() -> None:
    _, spec = tiny_detector()
    assert reference_conf([boxes(5), boxes(0)], spec) == spec.thresholds.conf
    assert reference_conf([boxes(0), boxes(0)], spec) == spec.thresholds.conf
    weak = boxes(8, scores=0.1)
    conf = reference_conf([weak, weak, weak], spec)
    assert int((weak.scores > conf).sum()) * 3 == 3
