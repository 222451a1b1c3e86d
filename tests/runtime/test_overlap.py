"""Intersection over union of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedet_runtime.overlap import box_iou

# Corners on a grid, so that cells can be counted.
CORNERS = arrays(np.int64, (5, 4), elements=st.integers(0, 12))


def _ordered(corners: np.ndarray) -> np.ndarray:
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    return np.concatenate([low, high], axis=1)


def _cells(box: np.ndarray) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = (int(v) for v in box)
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


@given(CORNERS, CORNERS)
def test_iou_is_that_of_counted_cells(a_corners: np.ndarray, b_corners: np.ndarray) -> None:
    a, b = _ordered(a_corners), _ordered(b_corners)
    found = box_iou(a, b)
    for i, box in enumerate(a):
        for j, other in enumerate(b):
            both, either = _cells(box) & _cells(other), _cells(box) | _cells(other)
            assert found[i, j] == pytest.approx(len(both) / len(either) if either else 0.0)


def test_no_boxes_and_no_area() -> None:
    assert box_iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert box_iou(np.array([[5.0, 5, 5, 9]]), np.array([[5.0, 5, 5, 9]])) == 0
