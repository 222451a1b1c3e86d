"""Input tensors: every layout, type and order, exact values, buffers that are reused."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.preprocess import Preprocessor, to_bgr
from edgedet_runtime.spec import InputSpec, ResizeSpec
from tests.runtime.tiny_models import random_image

IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    ("layout", "color", "dtype"),
    list(itertools.product(["NCHW", "NHWC"], ["BGR", "RGB"], ["uint8", "float32"])),
)
def test_tensor_is_the_letterboxed_picture(layout: Any, color: Any, dtype: Any) -> None:
    arithmetic: dict[str, Any] = IMAGENET if dtype == "float32" else {}
    spec = InputSpec("x", 64, 96, layout, dtype, color, **arithmetic)
    preprocess = Preprocessor(spec, ResizeSpec())
    for seed, (h, w) in enumerate(((120, 200), (64, 96), (33, 41))):
        image = random_image(h, w, seed)
        tensor, fit = preprocess(image)
        expected = Letterbox.fit((h, w), (64, 96), ResizeSpec()).apply(image).astype(np.float64)
        if color == "RGB":
            expected = expected[:, :, ::-1]
        expected = (expected * spec.scale - np.array(spec.mean)) / np.array(spec.std)
        if layout == "NCHW":
            expected = expected.transpose(2, 0, 1)
        assert fit.image_hw == (h, w)
        assert tensor.flags.c_contiguous
        assert tensor.dtype == dtype
        np.testing.assert_array_equal(tensor, expected[None].astype(dtype))


def test_division_by_255_is_exact() -> None:
    preprocess = Preprocessor(InputSpec("x", 16, 16, "NCHW", "float32", scale=1 / 255), ResizeSpec())
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tensor, _ = preprocess(grey)
    np.testing.assert_array_equal(tensor[0, 1], grey.astype(np.float32) / np.float32(255))


def test_the_tensor_is_one_buffer() -> None:
    preprocess = Preprocessor(InputSpec("x", 64, 96), ResizeSpec())
    first, _ = preprocess(random_image(50, 60))
    second, _ = preprocess(random_image(70, 30))
    assert first is second


def test_nothing_of_the_last_picture_stays() -> None:
    preprocess = Preprocessor(InputSpec("x", 64, 96), ResizeSpec())
    preprocess(np.full((64, 96, 3), 255, np.uint8))
    small, _ = preprocess(random_image(96, 20))
    expected = Letterbox.fit((96, 20), (64, 96), ResizeSpec()).apply(random_image(96, 20))
    np.testing.assert_array_equal(small[0], expected)


def test_grey_and_alpha_are_converted() -> None:
    image = random_image(20, 30)
    grey = image[:, :, 0]
    np.testing.assert_array_equal(to_bgr(grey), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(to_bgr(grey[:, :, None]), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(to_bgr(cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)), image)
    assert to_bgr(image) is image


NOT_PICTURES = {
    "None": None,
    "a list": [[1, 2], [3, 4]],
    "float": np.zeros((4, 4, 3), np.float32),
    "two channels": np.zeros((4, 4, 2), np.uint8),
    "planes": np.zeros((3, 40, 40), np.uint8),
    "batch": np.zeros((1, 4, 4, 3), np.uint8),
    "empty": np.zeros((0, 4, 3), np.uint8),
    "a scalar": np.uint8(3) * np.ones((), np.uint8),
}


@pytest.mark.parametrize("case", NOT_PICTURES)
def test_anything_else_is_refused_in_one_line(case: str) -> None:
    image: Any = NOT_PICTURES[case]
    with pytest.raises(InputError, match=r"^image: expected .* got") as error:
        Preprocessor(InputSpec("x", 64, 96), ResizeSpec())(image)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("image_hw", [(64, 96), (128, 192), (300, 470), (45, 50), (512, 768), (20, 96)])
@pytest.mark.parametrize("interpolation", ["linear", "linear-exact", "area-down", "linear-corner"])
@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_gray_and_bgra_become_the_same_pixels_as_their_bgr(
    image_hw: tuple[int, int], interpolation: str, shape: tuple[int, ...]
) -> None:
    """They are scaled as they are: no BGR copy of their size is made."""
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, *shape), np.uint8)
    resize = ResizeSpec(interpolation=interpolation)  # type: ignore[arg-type]
    prepare, other = (Preprocessor(InputSpec("images", 64, 96), resize) for _ in range(2))
    expected = other(to_bgr(image))[0]
    for _ in range(2):
        np.testing.assert_array_equal(prepare(image)[0], expected)
    if shape == (4,):
        np.testing.assert_array_equal(prepare(image[..., :1])[0], other(to_bgr(image[..., :1]))[0])
    crop = image[3:19, 5:40]
    np.testing.assert_array_equal(prepare(crop)[0], other(to_bgr(crop))[0])
