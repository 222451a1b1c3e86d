"""How much suppression compares: what a picture with thousands of candidates costs, counted instead of timed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime import nms as module
from edgedet_runtime.nms import nms

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return the shapes of all comparisons from here on: (a, b) of matrices, (pairs,) of sweeps."""
    shapes: list[tuple[int, ...]] = []
    above = module._iou_above

    def count(a: Floats, b: Floats, iou: float) -> npt.NDArray[np.bool_]:
        found = above(a, b, iou)
        shapes.append(found.shape)
        return found

    monkeypatch.setattr(module, "_iou_above", count)
    return shapes


def apart(n: int, first: int = 0) -> Floats:
    """Return boxes of 10 px that do not touch, 100 to a row."""
    at = np.arange(first, first + n)
    xy = np.stack((at % 100 * 20, at // 100 * 20), axis=1)
    return np.concatenate((xy, xy + 10), axis=1).astype(np.float32)


def falling(n: int) -> Floats:
    return np.linspace(1, 0.1, n, dtype=np.float32)


def test_the_best_128_as_one_matrix_then_512_against_what_is_kept(compared: list[tuple[int, ...]]) -> None:
    assert len(nms(apart(1000), falling(1000), iou=0.5)) == 1000
    matrices = [shape for shape in compared if len(shape) == 2]
    assert matrices[:2] == [(128, 128), (128, 512)]
    assert {shape[1] for shape in matrices[2:]} == {1000 - 640}
    assert sum(shape[0] for shape in matrices[2:]) == 640


@pytest.mark.parametrize(("fresh", "dense"), [(1, None), (2, True), (128, True), (129, False), (300, False)])
def test_up_to_128_that_are_left_are_one_matrix_and_more_are_swept(
    fresh: int, dense: bool | None, compared: list[tuple[int, ...]]
) -> None:
    """The second step gets 512 boxes, of which all but some lie on those that are kept."""
    boxes = np.concatenate((apart(128), apart(128).repeat(4, axis=0)[: 512 - fresh], apart(fresh, first=1000)))
    assert len(nms(boxes, falling(640), iou=0.5)) == 128 + fresh
    first, second, *rest = compared
    assert (first, second) == ((128, 128), (128, 512))
    assert [len(shape) for shape in rest] == ([] if dense is None else [2] if dense else [1])
    assert not dense or rest == [(fresh, fresh)]


@pytest.mark.parametrize(
    ("n", "limit", "steps"), [(128, None, 1), (640, None, 2), (641, None, 3), (641, 128, 1), (641, 129, 2)]
)
def test_no_more_steps_than_are_needed(n: int, limit: int | None, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    not_covered = module._not_covered

    def count(edges: Floats, classes: Ints | None, kept: Ints, new: Ints, iou: float) -> Ints:
        calls.append(len(new))
        return not_covered(edges, classes, kept, new, iou)

    monkeypatch.setattr(module, "_not_covered", count)
    assert len(nms(apart(n), falling(n), iou=0.5, max_det=limit)) == (limit or n)
    assert calls == [512, 1][: steps - 1]


def test_matrices_stay_in_the_cache(compared: list[tuple[int, ...]]) -> None:
    """65536 cells at most, and not many small ones instead."""
    nms(apart(6000), falling(6000), iou=0.5)
    cells = [int(np.prod(shape)) for shape in compared if len(shape) == 2]
    assert max(cells) == 65536
    pairs = sum(kept * new for kept, new in zip(range(128, 6000, 512), [512] * 11 + [240], strict=False))
    assert len(cells) < 1.2 * pairs / 65536 + 12


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("classes", [None, 1, 5, 80])
def test_a_sweep_compares_neighbors_of_one_class_only(
    iou: float, classes: int | None, compared: list[tuple[int, ...]]
) -> None:
    """Those whose left edges lie nearer to each other than 1 - iou of the width of the box further left."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(100, 700, (500, 2))
    boxes = np.concatenate((xy, xy + rng.uniform(20, 200, (500, 2))), axis=1).astype(np.float32)
    ids = None if classes is None else rng.integers(0, classes, 500)
    module._pairs(module._edges_and_area(boxes, np.arange(500)), ids, np.arange(500), iou)
    left, width = boxes[:, 0].astype(np.float64), (boxes[:, 2] - boxes[:, 0]).astype(np.float64)
    ahead = left[None] - left[:, None]
    near = (ahead > 0) & (ahead <= (1 - iou) * width[:, None] + 1e-3)
    if ids is not None:
        near &= ids[:, None] == ids
    (pairs,) = (shape[0] for shape in compared)
    assert near.sum() - 3 <= pairs <= near.sum()
