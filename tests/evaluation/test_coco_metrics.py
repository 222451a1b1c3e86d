"""COCO's figures on sets so small that they are known by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgedet.evaluation.coco_metrics import ImageResult, coco_figures

BOX = (10.0, 10.0, 60.0, 60.0)
FAR = (200.0, 200.0, 250.0, 250.0)


def result(
    truth: Sequence[tuple[tuple[float, ...], int]],
    found: Sequence[tuple[tuple[float, ...], int, float]],
    crowd: tuple[bool, ...] = (),
) -> ImageResult:
    boxes = np.array([b for b, _ in truth], np.float64).reshape(-1, 4)
    return ImageResult(
        width=320,
        height=320,
        truth_xyxy=boxes,
        truth_ids=np.array([c for _, c in truth], np.int64),
        truth_areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        truth_crowd=np.array(crowd or [False] * len(truth), np.bool_),
        boxes_xyxy=np.array([b for b, _, _ in found], np.float64).reshape(-1, 4),
        scores=np.array([s for _, _, s in found]),
        class_ids=np.array([c for _, c, _ in found], np.int64),
    )


def test_perfect_detections_score_one_and_missing_sizes_are_none() -> None:
    figures = coco_figures([result([(BOX, 0)], [(BOX, 0, 0.9)])], 2)
    assert [figures.ap, figures.ap50, figures.ap75, figures.ar100] == pytest.approx([1.0] * 4)
    assert figures.ap_medium == pytest.approx(1.0)  # 50 × 50 lies between 32² and 96²
    assert figures.ap_small is None
    assert figures.ap_large is None
    assert figures.per_class[0] == pytest.approx(1.0)
    assert figures.per_class[1] is None


def test_the_first_annotation_counts_like_any_other() -> None:
    # pycocotools takes id 0 for "no match"; ours start at 1
    figures = coco_figures([result([(BOX, 0), (FAR, 0)], [(BOX, 0, 0.9), (FAR, 0, 0.8)])], 1)
    assert figures.ap == pytest.approx(1.0)


def test_half_of_the_objects_found() -> None:
    # one of two objects found, nothing false: precision 1 up to recall 0.5, which is 51 of 101 recall points
    figures = coco_figures([result([(BOX, 0), (FAR, 0)], [(BOX, 0, 0.9)])], 1)
    assert figures.ap == pytest.approx(51 / 101)
    assert figures.ar100 == pytest.approx(0.5)


def test_iou_decides_which_thresholds_count() -> None:
    # a 50 × 40 box inside a 50 × 50 one: IoU 0.8, right at 0.50, 0.55 … 0.80, which is 7 of 10 thresholds
    figures = coco_figures([result([(BOX, 0)], [((10, 10, 60, 50), 0, 0.9)])], 1)
    assert figures.ap == pytest.approx(0.7)
    assert figures.ap75 == pytest.approx(1.0)


def test_a_false_one_before_the_right_one_halves_precision() -> None:
    figures = coco_figures([result([(BOX, 0)], [(FAR, 0, 0.9), (BOX, 0, 0.8)])], 1)
    assert figures.ap == pytest.approx(0.5)


def test_wrong_class_does_not_count() -> None:
    figures = coco_figures([result([(BOX, 0)], [(BOX, 1, 0.9)])], 2)
    assert figures.per_class == (0.0, None)


def test_crowd_regions_count_neither_way() -> None:
    found = [(BOX, 0, 0.9), ((12.0, 12.0, 50.0, 50.0), 0, 0.95)]
    crowd = coco_figures([result([(FAR, 0), (BOX, 0)], [*found, (FAR, 0, 0.5)], crowd=(False, True))], 1)
    assert crowd.ap == pytest.approx(1.0)
    assert crowd.best is not None
    assert crowd.best.detections == 1


def test_best_f1_and_the_table() -> None:
    # by falling score: right, right, false, right; three objects. F1 after 1, 2, 3, 4: 2/4, 4/5, 4/6, 6/7
    third = (100.0, 100.0, 150.0, 150.0)
    truth = [(BOX, 0), (FAR, 0), (third, 0)]
    nowhere = (270.0, 10.0, 300.0, 40.0)
    found = [(BOX, 0, 0.9), (FAR, 0, 0.7), (nowhere, 0, 0.5), (third, 0, 0.3)]
    figures = coco_figures([result(truth, found)], 1)
    assert figures.best is not None
    assert figures.best.f1 == pytest.approx(6 / 7)
    assert figures.best.threshold == pytest.approx(0.15)
    assert (figures.best.precision, figures.best.recall) == (0.75, 1.0)
    at_half = next(p for p in figures.table if p.threshold == 0.5)
    assert (at_half.detections, at_half.precision) == (2, 1.0)
    assert at_half.recall == pytest.approx(2 / 3)
    assert at_half.f1 == pytest.approx(4 / 5)
    at_95 = next(p for p in figures.table if p.threshold == 0.95)
    assert (at_95.precision, at_95.f1, at_95.detections) == (None, 0.0, 0)


def test_best_threshold_takes_ties_whole() -> None:
    found = [(BOX, 0, 0.5), (FAR, 0, 0.5)]
    best = coco_figures([result([(BOX, 0)], found)], 1).best
    assert best is not None
    assert best.detections == 2
    assert best.f1 == pytest.approx(2 / 3)


def test_nothing_found_and_nothing_there() -> None:
    assert coco_figures([result([(BOX, 0)], [])], 1).ap == 0.0
    empty = coco_figures([result([], [(BOX, 0, 0.9)])], 1)
    assert empty.ap is None
    assert empty.best is None


def test_maxdets_holds_per_class() -> None:
    found = [(BOX, 0, 0.9), (FAR, 0, 0.8)]
    results = [result([(BOX, 0), (FAR, 0)], found)]
    one = coco_figures(results, 1, max_det=1)
    assert one.ar100 == pytest.approx(0.5)


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    coco_figures([result([(BOX, 0)], [(BOX, 0, 0.9)])], 1)
    assert capsys.readouterr().out == ""
