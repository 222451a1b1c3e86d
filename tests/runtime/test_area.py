"""Area averaging: the bits that the docstring promises, and how far they are from INTER_AREA."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.area import shrink
from edgedet_runtime.scratch import Scratch

Picture = npt.NDArray[np.uint8]


def noise(h: int, w: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def shrunk(image: Picture, h: int, w: int, scratch: Scratch | None = None) -> Picture:
    out = np.full((h, w, 3), 77, np.uint8)
    shrink(image, out, Scratch() if scratch is None else scratch)
    return out


def sums(image: Picture, rows: int, cols: int) -> npt.NDArray[np.int64]:
    h, w = image.shape[0] // rows, image.shape[1] // cols
    return np.asarray(image.reshape(h, rows, w, cols, 3).sum((1, 3), dtype=np.int64))


def by_the_words(image: Picture, h: int, w: int) -> Picture:
    """Follow the steps of the docstring in whole numbers; sides are whole multiples."""
    rows, cols = image.shape[0] // h, image.shape[1] // w
    while rows % 2 == 0 and cols % 2 == 0:
        image = ((sums(image, 2, 2) + 2) // 4).astype(np.uint8)
        rows, cols = rows // 2, cols // 2
    means = sums(image, rows, cols).astype(np.float32) * np.float32(1 / (rows * cols))
    return np.asarray(np.rint(means), np.uint8)


WHOLE = [
    (2, 2),
    (3, 3),
    (4, 4),
    (5, 5),
    (6, 6),
    (8, 8),
    (12, 12),
    (10, 5),
    (6, 3),
    (12, 10),
    (20, 4),
    (1, 2),
    (7, 1),
    (2, 16),
    (17, 17),
]


@pytest.mark.parametrize(("rows", "cols"), WHOLE)
def test_whole_multiples_give_the_promised_bits(rows: int, cols: int) -> None:
    image = noise(11 * rows, 13 * cols)
    found = shrunk(image, 11, 13)
    np.testing.assert_array_equal(found, by_the_words(image, 11, 13))
    reference = cv2.resize(image, (13, 11), interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - reference).max() <= 1


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("times", [3, 6, 15, 17])
def test_one_color_stays_that_color(value: int, times: int) -> None:
    image = np.full((3 * times, 5 * times, 3), value, np.uint8)
    assert (shrunk(image, 3, 5) == value).all()


@pytest.mark.parametrize("image_hw", [(47, 64), (47, 72), (48, 61), (90, 61), (33, 100), (20, 90), (70, 30), (94, 94)])
def test_other_sizes_below_four_times_are_what_opencv_gives(image_hw: tuple[int, int]) -> None:
    image = noise(*image_hw)
    np.testing.assert_array_equal(shrunk(image, 24, 36), cv2.resize(image, (36, 24), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("image_hw", "halvings"),
    [
        ((108, 192), 1),
        ((216, 384), 2),
        ((109, 192), 0),
        ((108, 193), 0),
        ((92, 192), 0),
        ((216, 160), 0),
        ((96, 170), 1),
        ((98, 168), 1),
        ((100, 176), 1),
        ((104, 190), 1),
    ],
)
def test_other_sizes_are_halved_down_to_below_four_times(image_hw: tuple[int, int], halvings: int) -> None:
    image = noise(*image_hw)
    expected = image
    for _ in range(halvings):
        expected = ((sums(expected, 2, 2) + 2) // 4).astype(np.uint8)
    expected = np.asarray(cv2.resize(expected, (42, 24), interpolation=cv2.INTER_AREA), np.uint8)
    np.testing.assert_array_equal(shrunk(image, 24, 42), expected)


def test_on_a_smooth_picture_halving_first_changes_little() -> None:
    waves = np.sin(np.arange(480 * 3).reshape(1, 480, 3) / 40) * np.cos(np.arange(270).reshape(-1, 1, 1) / 11)
    image = np.rint(127.5 + 127.5 * waves).astype(np.uint8)
    difference = shrunk(image, 59, 104).astype(int) - cv2.resize(image, (104, 59), interpolation=cv2.INTER_AREA)
    assert np.abs(difference).max() <= 2
    assert np.abs(difference).mean() < 0.5
    assert abs(difference.mean()) < 0.2  # one half in four is rounded up, each time


def test_a_window_is_written_and_nothing_beside_it() -> None:
    canvas = np.full((20, 30, 3), 9, np.uint8)
    image = noise(60, 90)
    shrink(image, canvas[4:14, 5:20], Scratch())
    np.testing.assert_array_equal(canvas[4:14, 5:20], by_the_words(image, 10, 15))
    canvas[4:14, 5:20] = 9
    assert (canvas == 9).all()


def test_in_between_pictures_are_kept_and_do_not_leak_into_the_next() -> None:
    scratch = Scratch()
    for seed, (h, w) in enumerate([(120, 180), (120, 180), (240, 360), (60, 90), (120, 180)]):
        image = noise(h, w, seed)
        np.testing.assert_array_equal(shrunk(image, 10, 15, scratch), by_the_words(image, 10, 15))
    kept = dict(scratch._kept)
    shrunk(noise(120, 180), 10, 15, scratch)
    assert all(scratch._kept[name] is array for name, array in kept.items())


def test_views_of_pictures_are_averaged() -> None:
    view = noise(80, 200)[10:70, 20:110]
    np.testing.assert_array_equal(shrunk(view, 20, 30), by_the_words(view, 20, 30))


def test_sums_of_large_boxes_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    depths: list[int] = []
    real = cv2.boxFilter

    def box_filter(src: Picture, depth: int, *rest: object, **named: object) -> object:
        depths.append(depth)
        return real(src, depth, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(cv2, "boxFilter", box_filter)
    for rows, cols in ((1, 257), (1, 258)):
        assert (shrunk(np.full((2 * rows, 2 * cols, 3), 255, np.uint8), 2, 2) == 255).all()
    assert depths == [cv2.CV_16U, cv2.CV_32S]
