"""Greedy suppression: the rule in tables, against a plain loop, and as properties."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedet_runtime.nms import _one_by_one, nms

Floats = npt.NDArray[np.float32]


def plain_nms(boxes: Floats, scores: Floats, classes: npt.NDArray[np.int64] | None, iou: float) -> list[int]:
    """The rule, box by box, in float32."""
    kept: list[int] = []
    lo, hi = boxes[:, :2], boxes[:, 2:]
    area = (hi[:, 0] - lo[:, 0]) * (hi[:, 1] - lo[:, 1])
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        wh = np.maximum(np.minimum(hi[i], hi[kept]) - np.maximum(lo[i], lo[kept]), 0)
        inter = wh[:, 0] * wh[:, 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            above = inter / (area[i] + area[kept] - inter) > np.float32(iou)
        if classes is not None:
            above &= classes[kept] == classes[i]
        if not above.any():
            kept.append(i)
    return kept


def crowd(n: int, objects: int, classes: int, seed: int = 0) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return n candidates as a detector gives them: jittered copies of a few objects."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, 600, (objects, 2)), rng.uniform(10, 200, (objects, 2))
    of = rng.integers(0, objects, n)
    wh = size[of] * rng.uniform(0.8, 1.25, (n, 2))
    xy = centre[of] + rng.normal(0, 0.1, (n, 2)) * size[of] - wh / 2
    scores = np.round(rng.uniform(0.01, 1, n), 2)  # rounded: many ties
    boxes = np.concatenate((xy, xy + wh), axis=1)
    return boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, classes, objects)[of]


SAME = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU 0.5 with SAME
APART = [20.0, 0.0, 30.0, 10.0]
EMPTY = [5.0, 5.0, 5.0, 5.0]

TABLE = {
    "none": ([], [], None, 0.5, []),
    "single": ([SAME], [0.3], [1], 0.5, [0]),
    "same box twice": ([SAME, SAME], [0.3, 0.9], [0, 0], 0.5, [1]),
    "other class": ([SAME, SAME], [0.3, 0.9], [0, 1], 0.5, [1, 0]),
    "other class, agnostic": ([SAME, SAME], [0.3, 0.9], None, 0.5, [1]),
    "tie: lower index wins": ([SAME, SAME, SAME], [0.5, 0.5, 0.5], [0, 0, 0], 0.5, [0]),
    "ties apart keep their order": ([APART, SAME], [0.5, 0.5], [0, 0], 0.5, [0, 1]),
    "at the threshold: kept": ([SAME, HALF], [0.9, 0.8], [0, 0], 0.5, [0, 1]),
    "just above the threshold": ([SAME, HALF], [0.9, 0.8], [0, 0], 0.4999, [0]),
    "a suppressed box suppresses nothing": (
        [[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [8.0, 0.0, 18.0, 10.0]],
        [0.9, 0.8, 0.7],
        [0, 0, 0],
        0.3,
        [0, 2],
    ),
    "iou 1: nothing overlaps more": ([SAME, SAME], [0.9, 0.8], [0, 0], 1.0, [0, 1]),
    "iou 0: touching is not overlapping": (
        [SAME, [10.0, 0.0, 20.0, 10.0], [9.0, 0.0, 19.0, 10.0]],
        [0.9, 0.8, 0.7],
        [0, 0, 0],
        0.0,
        [0, 1],
    ),
    "boxes without area are kept": ([EMPTY, EMPTY, SAME], [0.9, 0.8, 0.7], [0, 0, 0], 0.5, [0, 1, 2]),
    "NaN and infinity are dropped": (
        [[np.nan, 0, 10, 10], SAME, SAME, [0, 0, np.inf, 10], SAME],
        [0.9, np.nan, 0.5, 0.8, np.inf],
        [0, 0, 0, 0, 0],
        0.5,
        [2],
    ),
    "scores below zero": ([SAME, APART, HALF], [-0.5, -0.1, 0.0], [0, 0, 0], 0.9, [2, 1, 0]),
    "zero and minus zero tie": ([SAME, APART], [-0.0, 0.0], [0, 0], 0.5, [0, 1]),
}


@pytest.mark.parametrize("case", TABLE)
def test_table(case: str) -> None:
    boxes, scores, classes, iou, expected = TABLE[case]
    kept = nms(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        None if classes is None else np.array(classes, np.int64),
        iou=iou,
    )
    assert kept.dtype == np.int64
    assert kept.tolist() == expected


@pytest.mark.parametrize("n", [2, 127, 128, 129, 700, 2500])
@pytest.mark.parametrize(("objects", "classes"), [(8, 1), (300, 1), (300, 20)])
@pytest.mark.parametrize("iou", [0.0, 0.45, 0.9])
def test_equals_the_plain_rule(n: int, objects: int, classes: int, iou: float) -> None:
    boxes, scores, class_ids = crowd(n, objects, classes, seed=n)
    expected = plain_nms(boxes, scores, class_ids, iou)
    assert nms(boxes, scores, class_ids, iou=iou).tolist() == expected
    assert nms(boxes, scores, class_ids, iou=iou, max_det=7).tolist() == expected[:7]


def test_chains_of_one_chunk_and_across_chunks() -> None:
    n = 1500  # every box overlaps its neighbours alone: of a chain in score order, every second one stays
    x = np.arange(n, dtype=np.float32) * 4
    boxes = np.stack((x, x * 0, x + 10, x * 0 + 10), axis=1)
    scores = np.linspace(1, 0.5, n, dtype=np.float32)
    assert nms(boxes, scores, iou=0.3).tolist() == list(range(0, n, 2))


def test_classes_far_apart_and_boxes_of_all_magnitudes() -> None:
    rng = np.random.default_rng(1)
    size = np.float32(10) ** rng.integers(-3, 12, 200)
    xy = rng.uniform(0, 3, (200, 2)).astype(np.float32) * size[:, None]
    boxes = np.concatenate((xy, xy + size[:, None]), axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, 200).astype(np.float32)
    classes = rng.choice(np.array([0, 1, 10**6, 2**40]), 200)
    expected = plain_nms(boxes, scores, classes, 0.3)
    assert nms(boxes, scores, classes, iou=0.3).tolist() == expected


def sweep(boxes: Floats, iou: float, classes: npt.NDArray[np.int64] | None = None) -> list[int]:
    """Return which of more than 128 boxes, the better ones first, are kept in a chunk that is compared by the sweep.

    The first chunk is compared as one matrix; it is filled with other boxes, each apart from all.
    """
    assert 128 < len(boxes) <= 512
    at = np.arange(128, dtype=np.float32) * 20 - 10_000
    filling = np.stack((at, at * 0 - 50, at + 10, at * 0 - 40), axis=1)
    ids = np.zeros(len(boxes), np.int64) if classes is None else classes
    everything, all_ids = np.concatenate((filling, boxes)), np.concatenate((np.zeros(128, np.int64), ids))
    scores = np.linspace(1, 0.5, len(everything), dtype=np.float32)
    kept = nms(everything, scores, all_ids, iou=iou)
    assert kept.tolist() == plain_nms(everything, scores, all_ids, iou)
    return [int(i) - 128 for i in kept if i >= 128]


@pytest.mark.parametrize("iou", [0.1, 0.45, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("better", ["outer", "inner"])
def test_the_sweep_reaches_as_far_as_a_pair_can_overlap(iou: float, better: str) -> None:
    """A box ends where a wider one ends: with IoU just above `iou` it begins almost (1 - iou) of the width later."""
    rows = np.arange(100, dtype=np.float32) * 20
    outer = np.stack((rows * 0, rows, rows * 0 + 1000, rows + 10), axis=1)
    above, below = outer.copy(), outer.copy()
    above[:, 0] = 1000 * (1 - iou) - 0.5
    below[:, 0] = 1000 * (1 - iou) + 0.5
    for inner, kept in ((above, 100), (below, 200)):
        pair = (outer, inner) if better == "outer" else (inner, outer)
        assert sweep(np.concatenate(pair), iou) == list(range(kept))


def test_the_sweep_sees_what_float32_rounds_above_the_limit() -> None:
    """Of pairs whose true IoU is the limit, float32 computes some above it; the sweep must have compared those."""
    rng = np.random.default_rng(5)
    suppressed = 0
    for seed in range(20):
        rows = np.arange(200, dtype=np.float32) * 3
        left, width = rng.uniform(0, 300, 200).astype(np.float32), rng.uniform(5, 300, 200)
        outer = np.stack((left, rows, left + width.astype(np.float32), rows + 2), axis=1)
        inner = outer.copy()
        inner[:, 0] += (outer[:, 2].astype(np.float64) - outer[:, 0]) * (1 - 0.45)
        inner[:, 0] = np.nextafter(inner[:, 0], np.inf) if seed % 2 else inner[:, 0]
        suppressed += 400 - len(sweep(np.concatenate((outer, inner)), 0.45))
    assert suppressed > 100


def test_the_sweep_keeps_class_and_place_apart_at_the_end_of_float64() -> None:
    """With class ids this large a class's stretch of the axis is a few numbers wide, and edges coincide."""
    n = 150
    x = np.arange(n, dtype=np.float32).repeat(2) * 4
    boxes = np.stack((x, x * 0, x + 0.05, x * 0 + 10), axis=1)
    classes = np.full(2 * n, 2**40)
    assert sweep(boxes, 0.5, classes) == list(range(0, 2 * n, 2))


@pytest.mark.parametrize("n", [999, 1000, 1500])
def test_order_of_scores_of_all_magnitudes_and_signs(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = (rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-44, 38, n)).astype(np.float32)
    scores[rng.integers(0, n, 60)] = 0.0
    scores[rng.integers(0, n, 60)] = -0.0
    scores[: n // 2] = scores[n // 2 : n // 2 * 2]  # ties
    x = np.arange(n, dtype=np.float32) * 10
    boxes = np.stack((x, x * 0, x + 5, x * 0 + 5), axis=1)
    assert nms(boxes, scores, iou=0.5).tolist() == sorted(range(n), key=lambda i: (-scores[i], i))


def test_25_000_candidates() -> None:
    boxes, scores, classes = crowd(25_000, 60, 10)
    kept = nms(boxes, scores, classes, iou=0.45, max_det=20)
    assert kept.tolist() == nms(boxes, scores, classes, iou=0.45)[:20].tolist()
    assert len(kept) == 20


@pytest.mark.parametrize(("boxes", "scores", "classes"), [((3, 5), 3, 3), ((2, 4), 3, 3), ((3, 4), 3, 2), ((4,), 1, 1)])
def test_shapes_are_checked(boxes: tuple[int, ...], scores: int, classes: int) -> None:
    with pytest.raises(ValueError, match="expected shape"):
        nms(np.zeros(boxes, np.float32), np.zeros(scores, np.float32), np.zeros(classes, np.int64), iou=0.5)


def test_scores_are_one_row_and_nothing_may_be_wanted() -> None:
    with pytest.raises(ValueError, match="boxes_xyxy: expected shape"):
        nms(np.zeros((3, 4), np.float32), np.zeros((3, 1), np.float32), iou=0.5)
    boxes, scores, classes = crowd(20, 5, 2)
    none = nms(boxes, scores, classes, iou=0.5, max_det=0)
    assert none.shape == (0,)
    assert none.dtype == np.int64


coordinates = st.integers(0, 40).map(float)


@settings(deadline=None, max_examples=60)
@given(
    corner=arrays(np.float32, st.tuples(st.integers(0, 40), st.just(4)), elements=coordinates),
    iou=st.sampled_from([0.0, 0.2, 0.5, 0.75, 1.0]),
    data=st.data(),
)
def test_is_idempotent_and_equals_the_plain_rule(corner: Floats, iou: float, data: st.DataObject) -> None:
    n = len(corner)
    boxes = np.concatenate((corner[:, :2], corner[:, :2] + corner[:, 2:]), axis=1)
    scores = data.draw(arrays(np.float32, n, elements=st.sampled_from([0.1, 0.25, 0.5, 0.75])))
    classes = data.draw(arrays(np.int64, n, elements=st.integers(0, 2)))
    kept = nms(boxes, scores, classes, iou=iou)
    assert kept.tolist() == plain_nms(boxes, scores, classes, iou)
    again = nms(boxes[kept], scores[kept], classes[kept], iou=iou)
    assert again.tolist() == list(range(len(kept)))


@pytest.mark.parametrize("n", [500, 1500])
def test_zeros_of_either_sign_are_equal_and_the_least_number_above_them_is_not(n: int) -> None:
    scores = np.zeros(n, np.float32)
    scores[1::2] = -0.0
    scores[n // 2], scores[3] = 1e-45, -1e-45
    at = np.arange(n, dtype=np.float32) * 10
    boxes = np.stack((at, at, at + 5, at + 5), axis=1)
    rest = [i for i in range(n) if i not in (n // 2, 3)]
    assert nms(boxes, scores, iou=0.5).tolist() == [n // 2, *rest, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_few_boxes_without_the_one_whose_score_is_no_number(bad: float) -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], np.float32)
    for place in range(3):
        scores = np.array([0.9, 0.8, 0.7], np.float32)
        scores[place] = bad
        expected = {0: [1, 2], 1: [0, 2], 2: [0]}[place]
        assert nms(boxes, scores, np.zeros(3, np.int64), iou=0.5).tolist() == expected


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 1e5, 1e9])
@pytest.mark.parametrize("count", [2, 40, 60])
@pytest.mark.parametrize("spread", [1.5, 30.0])
def test_a_few_boxes_one_by_one_and_in_numpy_are_the_same(size: float, count: int, spread: float) -> None:
    """On a lattice, where many an IoU is exactly the limit, beside the path for many boxes."""
    rng = np.random.default_rng(count)
    for _ in range(20):
        xy = rng.integers(0, 4, (count, 2)) * spread / 4
        boxes = np.concatenate([xy, xy + rng.integers(0, 4, (count, 2))], axis=1).astype(np.float32) * np.float32(size)
        scores = (rng.integers(1, 9, count) / 9).astype(np.float32)
        classes = rng.integers(0, 3, count)
        for iou in (0.0, 1 / 3, 0.5, 1.0):
            few = nms(boxes, scores, classes, iou=iou)
            far = np.full((300, 4), [[-1e7, -1e7, -1e7, -1e7]], np.float32)  # makes many of them, which touch nothing
            many = nms(
                np.concatenate([boxes, far]),
                np.concatenate([scores, np.zeros(300, np.float32)]),
                np.concatenate([classes, np.full(300, 9)]),
                iou=iou,
            )
            assert few.tolist() == many[many < count].tolist()


def test_what_the_one_by_one_path_leaves_to_numpy() -> None:
    box = np.array([[0, 0, 2, 2], [0, 0, 2, 1]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert _one_by_one(box, scores, classes, 0.4) == [0]
    assert _one_by_one(box, scores, classes, 0.6) == [0, 1]
    assert _one_by_one(box, scores, None, 0.4) == [0]
    assert _one_by_one(box, scores[::-1], classes, 0.4) == [1]
    assert _one_by_one(box, scores, np.array([0, 1]), 0.4) == [0, 1]
    in_doubt = (0.5, 0.5 + 1e-6, 0.5 - 1e-6)
    assert [_one_by_one(box, scores, classes, iou) for iou in (*in_doubt, 0.0, 1e-6)] == [None] * 5
    for bad in (np.float32(np.nan), np.float32(np.inf), np.float32(0), np.float32(-5), np.float32(3e6)):
        for column in (2, 3):
            odd = box.copy()
            odd[1, column] = bad
            assert _one_by_one(odd, scores, classes, 0.4) is None
    crowd = np.tile(np.array([[0, 0, 1, 1]], np.float32), (40, 1)) + np.arange(40, dtype=np.float32)[:, None] * 9
    assert _one_by_one(crowd, np.ones(40, np.float32), None, 0.5) is None
    assert _one_by_one(crowd[:20], np.ones(20, np.float32), None, 0.5) == list(range(20))
