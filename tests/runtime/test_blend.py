"""Weighted suppression: groups, means, order, and boxes that no intersection over union describes."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet_runtime.blend import blend
from edgedet_runtime.candidates import Candidates


def candidates(*rows: tuple[float, ...], points: bool = False) -> Candidates:
    """Return candidates of rows x0, y0, x1, y1, score, class; their one keypoint is the lower right corner."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.ascontiguousarray(table[:, :4])
    return Candidates(boxes, table[:, 4], table[:, 5].astype(np.int64), boxes[:, None, 2:] if points else None)


def test_overlapping_boxes_become_their_mean_weighted_by_score() -> None:
    found = candidates((0, 0, 10, 10, 0.6, 0), (2, 0, 12, 10, 0.9, 0), (50, 50, 60, 60, 0.7, 0), points=True)
    merged = blend(found, iou=0.3, max_det=10)
    share = 0.9 / 1.5
    mean = [2 * share, 0.0, 10 + 2 * share, 10.0]
    assert merged.scores.tolist() == pytest.approx([0.75, 0.7])
    np.testing.assert_allclose(merged.boxes_xyxy, np.array([mean, [50, 50, 60, 60]]), rtol=1e-6)
    assert merged.keypoints_xy is not None
    np.testing.assert_allclose(merged.keypoints_xy[:, 0], merged.boxes_xyxy[:, 2:])


def test_the_mean_score_decides_the_order_and_what_is_kept() -> None:
    found = candidates((0, 0, 9, 9, 0.9, 0), (0, 0, 9, 9, 0.3, 0), (50, 50, 60, 60, 0.8, 0))
    assert blend(found, iou=0.3, max_det=10).scores.tolist() == pytest.approx([0.8, 0.6])
    assert blend(found, iou=0.3, max_det=1).boxes_xyxy.tolist() == [[50, 50, 60, 60]]


@pytest.mark.parametrize(("agnostic", "count"), [(False, 2), (True, 1)])
def test_classes_stay_apart(agnostic: bool, count: int) -> None:
    found = candidates((0, 0, 9, 9, 0.9, 1), (0, 0, 9, 9, 0.6, 0))
    merged = blend(found, iou=0.3, max_det=10, class_agnostic=agnostic)
    assert len(merged) == count
    assert merged.class_ids[0] == 1


@pytest.mark.parametrize("overlap", [0.5, 0.49])
def test_a_box_joins_above_the_threshold_only(overlap: float) -> None:
    found = candidates((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 5, 0.8, 0))
    assert len(blend(found, iou=overlap, max_det=10)) == (2 if overlap == 0.5 else 1)


@pytest.mark.parametrize("best", [(5, 5, 5, 5), (9, 9, 3, 3), (9, 3, 3, 9), (5, 0, 5, 10)])
def test_a_best_box_without_a_positive_size_leaves_as_well(best: tuple[float, float, float, float]) -> None:
    """The official loop takes out what overlaps the best box, and never ends where that does not overlap itself."""
    found = candidates((*best, 0.9, 0), (0, 0, 10, 10, 0.8, 0), (*best, 0.7, 0))
    merged = blend(found, iou=0.3, max_det=10)
    assert merged.scores[0] == pytest.approx(0.9) or merged.scores[0] == pytest.approx(0.8)
    assert 2 <= len(merged) <= 3


def test_nothing_and_what_is_not_finite() -> None:
    assert len(blend(candidates(), iou=0.3, max_det=10)) == 0
    found = candidates((0, 0, np.inf, 9, 0.9, 0), (0, 0, 9, 9, 0.6, 0))
    assert blend(found, iou=0.3, max_det=10).scores.tolist() == pytest.approx([0.6])
