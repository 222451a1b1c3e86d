"""The sensitivity picture: bars in proportion, red where channels drown in rounding noise."""

from __future__ import annotations

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
