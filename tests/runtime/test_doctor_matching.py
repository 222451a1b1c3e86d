"""Matching of detections that should be the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgedet_runtime import Detections
from edgedet_runtime.doctor.matching import Matching, detections_differ, difference, match, without_counterpart

NAMES = ("cat", "dog")


def one(box: tuple[float, float, float, float], class_id: int = 0, score: float = 0.5) -> Detections:
    """Return a single detection."""
    boxes = np.array([box], np.float32)
    return Detections(boxes, np.array([score], np.float32), np.array([class_id], np.int64), NAMES)


def none() -> Detections:
    """Return no detection."""
    empty = np.empty(0)
    return Detections(np.empty((0, 4), np.float32), empty.astype(np.float32), empty.astype(np.int64), NAMES)


@pytest.mark.parametrize(
    ("expected", "found", "missing", "extra"),
    [
        (one((0, 0, 10, 10)), one((0.2, 0, 10, 10)), 0, 0),
        (one((0, 0, 10, 10)), one((0, 0, 10, 10), class_id=1), 1, 1),
        (one((0, 0, 10, 10)), one((20, 20, 30, 30)), 1, 1),
        (one((0, 5, 0, 9)), one((0, 5, 0, 9)), 0, 0),
        (one((0, 5, 0, 9)), one((0, 15, 0, 19)), 1, 1),
        (one((0, 0, 10, 10)), none(), 1, 0),
        (none(), one((0, 0, 10, 10)), 0, 1),
        (none(), none(), 0, 0),
    ],
    ids=["near", "other class", "elsewhere", "no area", "no area, elsewhere", "lost", "added", "empty"],
)
def test_difference(expected: Detections, found: Detections, missing: int, extra: int) -> None:
    seen = difference(expected, found)
    assert (seen.missing, seen.extra) == (missing, extra)


@pytest.mark.parametrize(
    ("found", "same"),
    [
        ((0, 0, 10, 5), True),
        ((0, 0, 10, 4.9), False),
        ((0, 0, 10, 20), True),
        ((0, 0, 10, 20.1), False),
        ((10.0, 0, 20, 10), False),
    ],
    ids=["IoU 0.5", "below", "IoU 0.5 of a larger one", "below of a larger one", "beside"],
)
def test_half_of_the_union_is_the_same_object(found: tuple[float, float, float, float], same: bool) -> None:
    seen = difference(one((0, 0, 10, 10)), one(found))
    assert (seen.missing == 0, seen.extra == 0) == (same, same)


@pytest.mark.parametrize(("apart", "same"), [(0.5, True), (0.51, False)])
def test_half_a_pixel_is_the_same_place_even_without_area(apart: float, same: bool) -> None:
    seen = difference(one((0, 5, 0, 9)), one((0, 5 + apart, 0, 9)))
    assert (seen.missing == 0) is same


def test_bounds_are_included_and_each_counts() -> None:
    seen = difference(one((0, 0, 10, 10), score=0.5), one((0, 0.25, 10, 10), score=0.75))
    assert (seen.box_px, seen.score) == (0.25, 0.25)
    assert seen.within(box_px=0.25, score=0.25)
    assert not seen.within(box_px=0.24, score=1)
    assert not seen.within(box_px=1, score=0.24)
    assert str(seen) == "boxes within 0.25 px, scores within 0.25"
    assert str(difference(one((0, 0, 10, 10)), none())) == "boxes within 0 px, scores within 0, 1 missing"
    assert str(difference(none(), one((0, 0, 10, 10)))) == "boxes within 0 px, scores within 0, 1 extra"


def test_each_expected_object_takes_the_nearest_that_is_left() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [40, 0, 50, 10]], np.float32)
    scores, ids = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    order = [2, 1, 0]
    shuffled = Detections(boxes[order], scores[order], ids, NAMES)
    seen = difference(Detections(boxes, scores, ids, NAMES), shuffled)
    assert (seen.missing, seen.extra, seen.box_px, seen.score) == (0, 0, 0, 0)


def lost(these: Detections, those: Detections, **more: Sequence[float]) -> bool:
    found = without_counterpart(these, those, box_px=0.5, score=0.25, unsure=more.get("unsure", ()))
    assert found in ([], [0])
    return bool(found)


@pytest.mark.parametrize(
    ("those", "is_lost"),
    [
        (one((0, 0, 10, 10)), False),
        (one((0.5, 0.5, 9.5, 10.5)), False),
        (one((0, 0, 10, 10.75)), True),
        (one((0.75, 0, 10, 10)), True),
        (one((0, 0, 10, 10), score=0.75), False),
        (one((0, 0, 10, 10), score=0.25), False),
        (one((0, 0, 10, 10), score=0.8), True),
        (one((0, 0, 10, 10), class_id=1), True),
        (none(), True),
    ],
)
def test_a_counterpart_lies_within_both_tolerances(those: Detections, is_lost: bool) -> None:
    assert lost(one((0, 0, 10, 10)), those) is is_lost
    assert not lost(none(), those)


@pytest.mark.parametrize(
    ("unsure", "is_lost"),
    [((), True), ((0.75,), False), ((0.25,), False), ((0.8,), True), ((0.2, 0.6), False), ((0.9, 0.1), True)],
)
def test_near_a_threshold_a_detection_may_be_missing(unsure: tuple[float, ...], is_lost: bool) -> None:
    assert lost(one((0, 0, 10, 10)), none(), unsure=unsure) is is_lost


def test_the_first_difference_in_words() -> None:
    a, b = one((0, 0, 10.126, 10)), one((5, 5, 20, 20), class_id=1, score=0.25)
    assert detections_differ(a, a, box_px=0, score=0) is None
    assert detections_differ(a, b, box_px=0, score=0) == "no match for cat 0.5000 at [0.0, 0.0, 10.13, 10.0]"
    assert detections_differ(none(), b, box_px=0, score=0) == "an extra dog 0.2500 at [5.0, 5.0, 20.0, 20.0]"
    assert detections_differ(none(), b, box_px=0, score=0, unsure=(0.25,)) is None


def test_who_belongs_to_whom() -> None:
    boxes = np.zeros((3, 4), np.float32)
    expected = Detections(boxes, np.ones(3, np.float32), np.array([0, 1, 0]), NAMES)
    found = Detections(boxes[:2], np.ones(2, np.float32), np.array([0, 0]), NAMES)
    nearness = np.array([[0.0, 0.5], [1.0, 1.0], [0.0, 1.0]])
    assert match(expected, found, nearness) == Matching(((0, 1),), (1, 2), (0,))
    assert match(found, expected, nearness.T) == Matching(((1, 2),), (0,), (0, 1))
