"""The sensitivity picture: bars in proportion, red where channels drown in rounding noise."""

from __future__ import annotations

import cv2
import numpy as np

from edgedet_export.quantize.sensitivity_picture import draw_sensitivity
from edgedet_runtime.bundle.quantization import LayerFacts


def layer(name: str, effect: float, poor: float) -> LayerFacts:
    return LayerFacts(name, effect, 1000, -1.0, 1.0, 30.0, 5.0, poor, 2.0)


def test_bars_are_in_proportion() -> None:
    picture = draw_sensitivity([layer("a", 2.0, 0.9), layer("b", 1.0, 0.0), layer("c", 0.0, 0.0)])
    assert picture.shape == (90, 1030, 3)
    red = (picture == (60, 60, 220)).all(axis=2)
    green = (picture == (140, 170, 90)).all(axis=2)
    widths = [int(mask[row * 18 + 9].sum()) for mask, row in ((red, 1), (green, 2), (green, 3))]
    assert widths == [401, 201, 2]
    assert not red[36:].any()


def test_no_layers() -> None:
    assert np.asarray(draw_sensitivity([])).shape[0] == 36


def test_each_row_has_its_words() -> None:
    picture = draw_sensitivity([layer("a" * 50, 2.0, 0.26), layer("b", 1.0, 0.25)])
    ink = np.asarray((picture < 100).all(axis=2))
    rows = ink.reshape(4, 18, -1)
    assert [bool(rows[row, :, :290].any()) for row in range(4)] == [True, True, True, False]
    assert [bool(rows[row, :, 710:].any()) for row in range(4)] == [True, True, True, False]
    red = (picture == (60, 60, 220)).all(axis=2)
    assert [bool(red[row * 18 : row * 18 + 18].any()) for row in range(4)] == [False, True, False, False]


def test_at_most_so_many_rows() -> None:
    assert draw_sensitivity([layer("a", 1.0, 0.0)] * 5, rows=3).shape[0] == 5 * 18


def test_each_row_has_its_name_and_its_numbers() -> None:
    picture = draw_sensitivity([layer("first", 2.0, 0.26), layer("second", 0.0, 0.25)])
    ink = np.asarray((picture < 100).all(axis=2))
    for row in range(3):
        rows = slice(row * 18 + 2, row * 18 + 18)
        assert ink[rows, 4:300].any()
        assert ink[rows, 708:].any()
        assert not ink[rows, :4].any()
    assert not ink[3 * 18 + 2 :].any()
    assert (picture[18:36] == (60, 60, 220)).all(axis=2).any(), "more than a quarter of poor channels"
    assert not (picture[36:] == (60, 60, 220)).all(axis=2).any(), "a quarter is not more"


def test_only_the_first_rows_are_drawn() -> None:
    assert draw_sensitivity([layer(str(i), 1.0, 0.0) for i in range(9)], rows=4).shape == (6 * 18, 1030, 3)


def test_words_and_bars_to_the_pixel() -> None:
    """A row is 18 px high: names from 4 px, bars of up to 400 px from 300 px, numbers from 708 px."""
    rows = [layer("n" * 45, 0.8, 0.3), layer("b", 0.2, 0.2)]
    expected = np.full((4 * 18, 1030, 3), 255, np.uint8)

    def write(x: int, baseline: int, text: str) -> None:
        cv2.putText(expected, text, (x, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (30, 30, 30), 1, cv2.LINE_AA)

    write(4, 13, "layer")
    write(300, 13, "effect on detections, this layer alone in INT8")
    write(708, 13, "effect  worst channel  poor channels")
    cv2.rectangle(expected, (300, 22), (700, 33), (60, 60, 220), cv2.FILLED)
    write(4, 31, "n" * 40)
    write(708, 31, " 0.800     5.0 dB     30%")
    cv2.rectangle(expected, (300, 40), (400, 51), (140, 170, 90), cv2.FILLED)
    write(4, 49, "b")
    write(708, 49, " 0.200     5.0 dB     20%")
    np.testing.assert_array_equal(draw_sensitivity(rows), expected)


def test_layers_without_an_effect_have_the_shortest_bar() -> None:
    picture = draw_sensitivity([layer("a", 0.0, 0.0)] * 2)
    green = (picture == (140, 170, 90)).all(axis=2)
    assert [int(green[row * 18 + 9].sum()) for row in (1, 2)] == [2, 2]
    assert draw_sensitivity([layer("a", 1.0, 0.0)] * 70).shape[0] == 62 * 18, "sixty, unless told otherwise"
