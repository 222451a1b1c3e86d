"""Drawn detections."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgedet_runtime.detections import Detections
from edgedet_runtime.draw import _label, draw


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


@pytest.mark.parametrize(("side", "line"), [(100, 1), (500, 2), (1000, 3), (2000, 6), (4000, 12)])
def test_lines_grow_with_the_picture(side: int, line: int) -> None:
    """Three thousandths of the mean side."""
    image = np.zeros((side * 3 // 4, side * 5 // 4, 3), np.uint8)
    x0, y0, x1, y1 = box = [round(side * v) for v in (0.2, 0.3, 0.9, 0.6)]
    drawn = draw(image, detections([[float(v) for v in box]], [0]))
    expected = cv2.rectangle(image.copy(), (x0, y0), (x1, y1), (36, 61, 242), line, cv2.LINE_AA)
    below = side * 9 // 20  # the label
    np.testing.assert_array_equal(drawn[below:], expected[below:])


def test_colors_of_classes_are_bright_and_neighbors_differ() -> None:
    image = np.zeros((1200, 1200, 3), np.uint8)
    many = Detections(
        np.array([[10, 400, 900, 1000]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), tuple("abcdef")
    )
    colors = [draw(image, replace(many, class_ids=np.array([i])))[1000, 500].astype(int) for i in range(6)]
    for color in colors:
        assert (color.max(), color.min()) == (242, 36), "value 0.95, saturation 0.85"
    assert colors[0].tolist() == [36, 61, 242], "hue 0.02: red"
    for a, b in itertools.pairwise(colors):
        assert np.abs(a - b).max() > 100


def label(box: list[float], names: tuple[str, ...] = ("x" * 12,)) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the label in a picture of 300 rows and 900 columns."""
    image = np.zeros((300, 900, 3), np.uint8)
    one = Detections(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), names)
    drawn = draw(image, one)
    filled = (drawn == drawn[round(box[3]), round(box[2]) - 20]).all(axis=2)
    rows = np.flatnonzero(filled[:, :].sum(axis=1) > 0)
    rows = rows[(np.abs(rows - round(box[1])) > 2) & (rows < box[3] - 3) & (rows < box[1] + 40)]
    columns = np.flatnonzero(filled[rows[0] if rows[0] < box[1] else rows[-1] - 1])
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def test_labels_lie_above_the_corner_and_inside_the_picture() -> None:
    (w, h), base = cv2.getTextSize("x" * 12 + " 1.00", cv2.FONT_HERSHEY_SIMPLEX, 2 / 3, 1)
    margin = h // 4
    tall, wide = h + base + margin, w + 2 * margin
    top, _, left, right = label([100, 100, 600, 250])
    assert (top, left, right) == (100 - tall, 100, 100 + wide)
    _, _, left, right = label([860, 100, 899, 250])
    assert (left, right) == (900 - wide, 899), "moved to the left as far as it must"
    top, _, left, _ = label([100, tall, 600, 250])
    assert (top, left) == (0, 100), "just room enough above"


def test_label_inside_where_there_is_no_room_above() -> None:
    (_, h), base = cv2.getTextSize("a class with a rather long name 0.90", cv2.FONT_HERSHEY_SIMPLEX, 2 / 3, 1)
    tall = h + base + h // 4
    drawn = draw(np.zeros((300, 900, 3), np.uint8), detections([[100, 3, 600, 250]], [2]))
    filled = (drawn == drawn[10, 102]).all(axis=2)[:, 102]
    assert np.flatnonzero(filled[5:40]).tolist() == list(range(3 + tall + 1 - 5))


@pytest.mark.parametrize(("class_id", "ink"), [(0, 255), (1, 255), (2, 0)], ids=["red", "blue", "yellow"])
def test_letters_stand_out_from_their_background(class_id: int, ink: int) -> None:
    image = np.full((2000, 3000, 3), 128, np.uint8)
    drawn = draw(image, detections([[100, 1000, 2500, 1750]], [class_id]))[700:990]
    assert (drawn == ink).all(axis=2).any()
    assert not (drawn == 255 - ink).all(axis=2).any()


def colored(class_id: int) -> tuple[int, int, int]:
    """Return the color that a class is drawn in."""
    boxes = np.array([[2, 30, 58, 58]], np.float32)
    one = Detections(boxes, np.ones(1, np.float32), np.array([class_id]), ("",) * (class_id + 1))
    b, g, r = (int(v) for v in draw(np.zeros((60, 60, 3), np.uint8), one)[58, 40])
    return b, g, r


def test_hues_of_classes_are_a_golden_section_apart() -> None:
    """By OpenCV's own conversion; hues are in steps of 2 degrees there."""
    for class_id in (0, 1, 2, 3, 10, 79):
        hue = cv2.cvtColor(np.array([[colored(class_id)]], np.uint8), cv2.COLOR_BGR2HSV)[0, 0, 0] / 180
        expected = (0.02 + class_id * (5**0.5 - 1) / 2) % 1
        assert abs((hue - expected + 0.5) % 1 - 0.5) < 1 / 150, class_id


def test_ink_is_black_on_what_is_bright_in_gray() -> None:
    """Gray as television has it (ITU-R BT.601), which OpenCV computes as well; 140 of 255 divides."""
    grays = {}
    for class_id in range(110):
        gray = int(cv2.cvtColor(np.array([[colored(class_id)]], np.uint8), cv2.COLOR_BGR2GRAY)[0, 0])
        if gray == 140:
            continue
        grays[gray] = class_id
        canvas = np.full((300, 900, 3), 128, np.uint8)
        _label(canvas, "HHHH", (10, 200), colored(class_id), 3.0, 4)
        ink = {value for value in (0, 255) if (canvas == value).all(axis=2).any()}
        assert ink == ({0} if gray > 140 else {255}), (class_id, gray)
    assert min(grays) < 60
    assert max(grays) > 190
    assert {136, 137, 138, 139, 141, 142, 143, 144} & set(grays), "some are near the limit"


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0])
def test_letters_lie_in_the_middle_of_their_background(scale: float) -> None:
    """Without letters that reach below the line: half a margin above them, and the rest and the base line below."""
    thickness = max(1, round(scale))
    (w, h), base = cv2.getTextSize("HHHH", cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = h // 4
    canvas = np.full((300, 900, 3), 128, np.uint8)
    _label(canvas, "HHHH", (10, 200), (36, 61, 242), scale, thickness)
    filled = np.argwhere((canvas != 128).any(axis=2))
    assert filled.min(axis=0).tolist() == [200 - h - base - margin, 10]
    assert filled.max(axis=0).tolist() == [200, 10 + w + 2 * margin]
    ink = np.argwhere((canvas == 255).all(axis=2))
    assert abs(ink[:, 0].max() - (200 - base - margin + margin // 2)) <= 1 + thickness // 2
    assert abs((ink[:, 1].min() + ink[:, 1].max()) / 2 - (10 + margin + w / 2)) <= 3


def test_letters_of_small_pictures_can_still_be_read() -> None:
    (w, h), base = cv2.getTextSize("xxxx 1.00", cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
    one = Detections(np.array([[5, 40, 60, 70]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("xxxx",))
    drawn = draw(np.zeros((100, 150, 3), np.uint8), one)
    rows, columns = np.nonzero(drawn[:39].any(axis=2))
    assert (rows.min(), columns.min(), columns.max()) == (40 - h - base - h // 4, 5, 5 + w + 2 * (h // 4))
