"""Drawn detections."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet_runtime.detections import Detections
from edgedet_runtime.draw import draw


def detections(boxes: list[list[float]], classes: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        np.array(classes, np.int64),
        ("cat", "dog", "a class with a rather long name"),
    )


def test_the_picture_itself_is_left_alone() -> None:
    image = np.full((100, 160, 3), 60, np.uint8)
    drawn = draw(image, detections([[20, 40, 90, 80]], [0]))
    assert (image == 60).all()
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def test_nothing_to_draw() -> None:
    image = np.full((50, 60, 3), 60, np.uint8)
    np.testing.assert_array_equal(draw(image, detections([], [])), image)


def test_lines_lie_on_the_box_and_classes_differ() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    drawn = draw(image, detections([[100, 200, 300, 400], [400, 200, 600, 400]], [0, 1]))
    first, second = drawn[400, 200], drawn[400, 500]
    assert first.any()
    assert second.any()
    assert (first != second).any()
    assert not drawn[300, 200].any()  # inside stays visible
    assert (drawn[400, 100:300] == first).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (40, 2000), (2160, 3840)])
@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0, 0, 1e4, 1e4], [5, 5, 5, 5]])
def test_any_size(size: tuple[int, int], box: list[float]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    assert draw(image, detections([box], [2])).any()


def test_lines_grow_with_the_picture() -> None:
    def share(scale: int) -> float:
        image = np.zeros((240 * scale, 320 * scale, 3), np.uint8)
        box = [40.0 * scale, 90.0 * scale, 300.0 * scale, 200.0 * scale]
        drawn = draw(image, detections([box], [0]))
        return float(drawn.any(axis=2).mean())

    assert share(8) > 0.5 * share(2)
