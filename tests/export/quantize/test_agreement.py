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
    assert (found.score_shift, found.score_spread) == (0.0, 0.0)


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


def test_reference_conf_where_there_are_fewer_detections_than_pictures() -> None:
    _, spec = tiny_detector()
    one, none = boxes(1, scores=0.1), boxes(0)
    conf = reference_conf([none, one, none], spec)
    assert conf == np.nextafter(np.float32(0.1), np.float32(0))
    two = reference_conf([boxes(2, scores=0.1), none, none], spec)
    assert two == np.nextafter(np.float32(0.05), np.float32(0)), "just below the lowest"


def test_reference_conf_is_the_default_as_soon_as_there_is_one_per_picture() -> None:
    _, spec = tiny_detector()
    default = spec.thresholds.conf
    above, at = (Candidates(boxes(1).boxes_xyxy, np.array([s], np.float32), np.array([0])) for s in (0.9, default))
    weak = boxes(4, scores=default / 2)
    assert reference_conf([above, above, weak], spec) < default
    assert reference_conf([above, Candidates.concatenate([above, weak])], spec) == default
    assert reference_conf([above, at], spec) < default, "a score counts above the threshold, not at it"


@pytest.mark.parametrize(
    ("scores", "conf", "threshold"),
    [
        ([0.9, 0.8, 0.7, 0.6], 0.75, 0.75),
        ([0.9, 0.8, 0.7, 0.6], 0.5, np.float32(0.7)),
        ([0.9, 0.8, 0.7, 0.6], 0.85, np.nextafter(np.float32(0.8), np.float32(0))),
        ([0.9, 0.8], 0.001, 0.001),
        ([0.9], 0.4, 0.005),
        ([], 0.4, 0.005),
    ],
    ids=["between", "below the third", "above the second", "as many", "too few", "none"],
)
def test_the_threshold_that_leaves_two_detections(scores: list[float], conf: float, threshold: float) -> None:
    truth = Candidates(boxes(2).boxes_xyxy, np.array([0.99, 0.98], np.float32), np.array([0, 1]))
    n = len(scores)
    other = Candidates(boxes(n).boxes_xyxy, np.array(scores, np.float32), np.zeros(n, np.int64))
    assert compare_detections([truth], [other], conf).threshold == pytest.approx(float(threshold), abs=1e-9)


def test_detections_count_above_conf_and_not_at_it() -> None:
    pair = Candidates(boxes(2).boxes_xyxy, np.array([0.5, 0.25], np.float32), np.array([0, 1]))
    found = compare_detections([pair], [pair], 0.25)
    assert (found.reference, found.matched, found.extra) == (1, 1, 0)
    assert compare_detections([pair], [pair], 0.5).reference == 0
    assert compare_detections([boxes(0)], [pair], 0.25).extra == 1


def test_shifts_are_those_of_every_match_at_half_overlap() -> None:
    """Boxes of 50 px moved by 16 overlap by 34 / 66 = 0.52: a match at 0.50 and at no other threshold."""
    moved = boxes(2, shift=16)
    moved = Candidates(moved.boxes_xyxy, moved.scores - np.array([0.2, 0.4], np.float32), moved.class_ids)
    found = compare_detections([boxes(2)], [moved], 0.25)
    assert found.score_shift == pytest.approx(-0.3, abs=1e-6)
    assert found.score_spread == pytest.approx(0.1, abs=1e-6)
    assert found.agreement == pytest.approx(0.1, abs=1e-6)
    assert (found.matched, found.extra) == (1, 0), "the second is at 0.05 now, below conf"


def test_boxes_thinner_than_a_pixel_count_as_one_pixel_wide() -> None:
    """Points 0.2 px apart: squares of one pixel overlap by 0.8 / 1.2 = 0.67, a match at four thresholds of ten."""

    def point(x: float, y: float) -> Candidates:
        return Candidates(np.array([[x, y, x, y]], np.float32), np.array([0.9], np.float32), np.array([0]))

    for other in (point(8.2, 4), point(8, 4.2)):
        assert compare_detections([point(8, 4)], [other], 0.25).agreement == pytest.approx(0.4)
    wide = Candidates(np.array([[0, 4, 40, 4]], np.float32), np.array([0.9], np.float32), np.array([0]))
    half = Candidates(np.array([[0, 4, 21, 4]], np.float32), np.array([0.9], np.float32), np.array([0]))
    assert compare_detections([wide], [half], 0.25).agreement == pytest.approx(0.1), "21 of 40 px: 0.525"
    for apart, thresholds in ((0.22, 3), (0.245, 3)):  # 0.64 and 0.61: with 10 % more or less width 0.67 and 0.57
        found = compare_detections([point(8, 4)], [point(8 + apart, 4)], 0.25)
        assert found.agreement == pytest.approx(thresholds / 10), apart


def test_pictures_are_compared_one_by_one() -> None:
    found = compare_detections([boxes(2), boxes(0)], [boxes(0), boxes(2)], 0.25)
    assert (found.agreement, found.reference, found.matched, found.extra) == (0.0, 2, 0, 2)


def test_the_best_detection_of_an_object_is_its_match() -> None:
    """A second box on the same object is extra, and its lower score does not count as a shift."""
    twice = Candidates.concatenate(
        [boxes(1), Candidates(boxes(1).boxes_xyxy, np.array([0.5], np.float32), np.array([0]))]
    )
    found = compare_detections([boxes(1)], [twice], 0.25)
    assert (found.matched, found.extra, found.score_shift) == (1, 1, 0.0)
