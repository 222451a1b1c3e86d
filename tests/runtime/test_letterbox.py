"""Letterbox: official numbers, exact pixels, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet_runtime.errors import InputError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import InputSpec, ResizeSpec

CENTRED = ResizeSpec()
TOPLEFT = ResizeSpec("letterbox-topleft", rounding="floor")
STRETCH = ResizeSpec("stretch")


def padded(pad_bgr: tuple[int, int, int]) -> ResizeSpec:
    return ResizeSpec(pad_bgr=pad_bgr)


# image (h, w), input (h, w), rules → resized (h, w), origin (y, x)
GEOMETRY = {
    "bus.jpg in 640": ((1080, 810), (640, 640), CENTRED, (640, 480), (0, 80)),
    "zidane.jpg in 384x640": ((720, 1280), (384, 640), CENTRED, (360, 640), (12, 0)),
    "odd rest: the extra row goes below": ((100, 100), (65, 64), CENTRED, (64, 64), (0, 0)),
    "odd rest: the extra column goes to the right": ((100, 100), (64, 67), CENTRED, (64, 64), (0, 1)),
    "half a pixel rounds to even": ((5, 2), (1, 1), CENTRED, (1, 1), (0, 0)),
    "YOLOX cuts": ((427, 640), (416, 416), TOPLEFT, (277, 416), (0, 0)),
    "thin picture keeps a column": ((10000, 3), (64, 64), CENTRED, (64, 1), (0, 31)),
    "flat picture keeps a row": ((3, 10000), (64, 64), CENTRED, (1, 64), (31, 0)),
    "no scaling up": ((32, 48), (64, 64), ResizeSpec(scale_up=False), (32, 48), (16, 8)),
    "stretched": ((10, 90), (64, 32), STRETCH, (64, 32), (0, 0)),
}


@pytest.mark.parametrize("case", GEOMETRY)
def test_geometry(case: str) -> None:
    image, size, rules, resized, origin = GEOMETRY[case]
    fit = Letterbox.fit(image, size, rules)
    assert fit.resized_hw == resized
    assert fit.origin_yx == origin


@pytest.mark.parametrize(
    ("image_hw", "box", "expected"),
    [
        ((200, 100), (26.0, 10.0, 42.0, 30.0), (31.25, 31.25, 81.25, 93.75)),  # tall: 16 px at the left
        ((100, 200), (10.0, 26.0, 30.0, 42.0), (31.25, 31.25, 93.75, 81.25)),  # wide: 16 px at the top
        ((101, 50), (26.0, 10.0, 42.0, 30.0), (15.53125, 15.78125, 40.78125, 47.34375)),  # 16.158 px
    ],
)
def test_a_centered_pad_is_half_of_what_is_left(
    image_hw: tuple[int, int], box: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """By hand, for an input of 64 x 64: (box - pad) / gain with gain = 64 / longer side."""
    fitted = Letterbox.fit(image_hw, (64, 64), ResizeSpec())
    found = fitted.to_image(np.array([box], np.float32))
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_boxes_go_by_the_exact_pad_and_pixels_by_the_whole_one() -> None:
    """The picture starts at a whole row, boxes are counted from where it would start: half a pixel apart here."""
    half = Letterbox.fit((100, 100), (65, 64), CENTRED)
    assert (half.origin_yx, half.pad_xy, half.gain_xy) == ((0, 0), (0.0, 0.5), (0.64, 0.64))
    assert half.to_image([[0, 0.5, 64, 64.5]]).tolist() == [[0, 0, 100, 100]]
    assert half.to_input([[0, 0, 100, 100]]).tolist() == [[0, 0.5, 64, 64.5]]
    fit = Letterbox.fit((333, 500), (416, 416), CENTRED)
    assert (fit.origin_yx, fit.resized_hw) == ((69, 0), (277, 416))
    assert fit.pad_xy == pytest.approx((0.0, (416 - 333 * 0.832) / 2), abs=1e-12)
    np.testing.assert_allclose(fit.to_input([[0, 0, 500, 333]]), [[0, 69.472, 416, 346.528]], rtol=1e-6)


@pytest.mark.parametrize(
    "rules", [CENTRED, TOPLEFT, STRETCH, *map(padded, [(1, 2, 3), (1, 1, 2), (2, 1, 1), (1, 2, 1)])]
)
@pytest.mark.parametrize("image_hw", [(37, 53), (64, 96), (90, 20), (200, 300)])
def test_apply_writes_every_pixel(rules: ResizeSpec, image_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), np.uint8)
    fit = Letterbox.fit(image_hw, (64, 96), rules)
    (top, left), (h, w) = fit.origin_yx, fit.resized_hw
    expected = np.full((64, 96, 3), rules.pad_bgr, np.uint8)
    expected[top : top + h, left : left + w] = (
        image if image_hw == (h, w) else cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    )
    out = np.full((64, 96, 3), 77, np.uint8)
    assert fit.apply(image, out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(fit.apply(image), expected)


def test_apply_takes_views_of_pictures() -> None:
    big = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    view = big[10:50, 5:105]
    fit = Letterbox.fit(view.shape[:2], (64, 96), CENTRED)
    np.testing.assert_array_equal(fit.apply(view), fit.apply(view.copy()))


def test_area_averaging_only_where_it_shrinks() -> None:
    rules = ResizeSpec(interpolation="area-down")
    image = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    shrunk = Letterbox.fit((128, 192), (64, 96), rules).apply(image)
    np.testing.assert_array_equal(shrunk, cv2.resize(image, (96, 64), interpolation=cv2.INTER_AREA))
    grown = Letterbox.fit((128, 192), (256, 384), rules).apply(image)
    np.testing.assert_array_equal(grown, cv2.resize(image, (384, 256), interpolation=cv2.INTER_LINEAR))


@pytest.mark.parametrize(
    ("image_hw", "method"),
    [
        ((40, 192), cv2.INTER_AREA),
        ((128, 60), cv2.INTER_AREA),
        ((64, 192), cv2.INTER_AREA),
        ((64, 60), cv2.INTER_LINEAR),
        ((40, 96), cv2.INTER_LINEAR),
    ],
    ids=["narrower", "lower", "narrower alone", "wider alone", "higher alone"],
)
def test_area_averaging_where_one_side_shrinks(image_hw: tuple[int, int], method: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), np.uint8)
    found = Letterbox.fit(image_hw, (64, 96), ResizeSpec("stretch", interpolation="area-down")).apply(image)
    other = {cv2.INTER_AREA: cv2.INTER_LINEAR, cv2.INTER_LINEAR: cv2.INTER_AREA}[method]
    difference = found.astype(int) - cv2.resize(image, (96, 64), interpolation=method)
    assert np.abs(difference).max() <= (1 if image_hw == (64, 192) else 0)  # a whole multiple: ties go to even
    assert (found != cv2.resize(image, (96, 64), interpolation=other)).any()


def test_exact_interpolation_is_the_one_that_is_alike_on_every_cpu() -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 131, 3), np.uint8)
    fit = Letterbox.fit((97, 131), (64, 96), ResizeSpec(mode="stretch", interpolation="linear-exact"))
    exact = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR_EXACT)
    np.testing.assert_array_equal(fit.apply(image), exact)
    assert (exact != cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)).any()


@pytest.mark.parametrize(
    ("image", "out"),
    [
        (np.zeros((5, 5, 3), np.uint8), None),
        (np.zeros((4, 4, 3), np.float32), None),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((7, 8, 3), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.int8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((8, 16, 3), np.uint8)[:, ::2]),
    ],
)
def test_apply_refuses_other_arrays(image: Any, out: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        Letterbox.fit((4, 4), (8, 8), CENTRED).apply(image, out)


def test_picture_without_pixels() -> None:
    for image_hw, words in (((5, 0), "0x5"), ((0, 5), "5x0")):
        with pytest.raises(InputError, match=f"at least 1x1 pixels, got {words}"):
            Letterbox.fit(image_hw, (8, 8), CENTRED)
    assert Letterbox.fit((1, 1), (8, 8), CENTRED).resized_hw == (8, 8)


@pytest.mark.parametrize(
    ("rules", "gain"), [(TOPLEFT, (0.5, 0.5)), (STRETCH, (0.32, 0.5))], ids=["top left", "stretch"]
)
def test_modes_without_a_pad(rules: ResizeSpec, gain: tuple[float, float]) -> None:
    fit = Letterbox.fit((80, 100), (40, 32), rules) if rules is STRETCH else Letterbox.fit((80, 100), (40, 60), rules)
    assert (fit.pad_xy, fit.origin_yx, fit.gain_xy) == ((0.0, 0.0), (0, 0), gain)


@settings(deadline=None, max_examples=100)
@given(
    image=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    size=st.tuples(st.integers(32, 1280), st.integers(32, 1280)),
    rules=st.sampled_from([CENTRED, TOPLEFT, STRETCH, ResizeSpec(scale_up=False)]),
    seed=st.integers(0, 99),
)
def test_there_and_back(image: tuple[int, int], size: tuple[int, int], rules: ResizeSpec, seed: int) -> None:
    fit = Letterbox.fit(image, size, rules)
    h, w = image
    corners = np.random.default_rng(seed).uniform(0, 1, (20, 2, 2)) * (w, h)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    there = fit.to_input(boxes)
    back = fit.to_image(there)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, boxes, rtol=1e-6, atol=2e-7 * max(size) / min(fit.gain_xy) + 1e-6)
    assert (there >= -0.51).all()  # pad is not rounded, the picture's origin is
    assert (there <= (size[1] + 0.51, size[0] + 0.51) * 2).all()


def test_clipping() -> None:
    fit = Letterbox.fit((50, 100), (100, 100), CENTRED)
    assert fit.to_image([[-10, 0, 110, 100]]).tolist() == [[0, 0, 100, 50]]
    assert fit.to_image([[-10, 0, 110, 100]], clip=False).tolist() == [[-10, -25, 110, 75]]
    assert fit.to_input([[-10, -25, 110, 75]], clip=True).tolist() == [[0, 0, 100, 100]]
    assert fit.to_input([[-10, -30, 110, 80]]).tolist() == [[-10, -5, 110, 105]]
    assert fit.to_image(np.zeros((0, 4))).shape == (0, 4)


RGB_255 = {"layout": "NCHW", "dtype": "float32", "color": "RGB", "scale": 1 / 255}
OFFICIAL = {
    "yolov5-yolov5n": (CENTRED, RGB_255),
    "spd-yolov5n": (CENTRED, RGB_255),
    "yolov7-tiny-w05": (CENTRED, RGB_255),
    "yolov6-lite-s": (CENTRED, RGB_255),
    "yolov6-yolov6n-deploy-w0125": (CENTRED, RGB_255),
    "yolox-nano": (TOPLEFT, {"layout": "NCHW", "dtype": "float32"}),
    "damoyolo-T-quarter": (STRETCH, {"layout": "NCHW", "dtype": "float32", "color": "RGB"}),
    "darknet-yolov4-tiny-half": (STRETCH, RGB_255),
}


@pytest.mark.interop
@pytest.mark.parametrize("name", OFFICIAL)
def test_equals_official_preprocessing_bit_for_bit(name: str, shared: Path) -> None:
    folder = shared / "fixtures" / name
    resize, settings_ = OFFICIAL[name]
    _, _, h, w = json.loads((folder / "meta.json").read_text())["input_size"]
    preprocess = Preprocessor(InputSpec("x", h, w, **settings_), resize)  # type: ignore[arg-type]
    with np.load(folder / "preproc.npz") as file, np.load(folder / "reference.npz") as reference:
        for i in (0, 1):
            if "images_rgb" in file.files:
                image = file["images_rgb"][i][:, :, ::-1]
            elif f"image{i}_rgb" in file.files:
                image = file[f"image{i}_rgb"][:, :, ::-1]
            else:
                image = file[f"image{i}_bgr"]
            tensor, _ = preprocess(image)
            np.testing.assert_array_equal(tensor[0], reference["input"][i])


def test_corner_alignment_keeps_the_first_pixel_and_scales_indices() -> None:
    """NanoDet's warp: input column 2 k of a picture that is enlarged twice is the picture's column k itself."""
    picture = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3) * 2
    fit = Letterbox.fit((6, 5), (12, 10), ResizeSpec("stretch", interpolation="linear-corner"))
    warped = fit.apply(picture)
    np.testing.assert_array_equal(warped[::2, ::2], picture)
    between = (picture[:, :-1].astype(int) + picture[:, 1:]) / 2
    assert np.abs(warped[::2, 1:-1:2] - between).max() <= 0.5


def test_coordinates_by_the_sides_of_the_resized_picture() -> None:
    """mmdet: 140 × 130 at a factor of 160 / 130 is 172.3 wide, 172 in pixels."""
    rules = ResizeSpec("letterbox-topleft", per_axis=True)
    fit = Letterbox.fit((130, 140), (160, 192), rules)
    assert fit.gain_xy == (172 / 140, 160 / 130)
    np.testing.assert_allclose(fit.to_image([[172, 160, 0, 0]]), [[140, 130, 0, 0]], rtol=1e-6)
    assert Letterbox.fit((130, 140), (160, 192), ResizeSpec("letterbox-topleft")).gain_xy == (160 / 130,) * 2
