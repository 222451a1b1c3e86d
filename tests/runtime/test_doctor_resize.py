"""Resizing against exact bilinear interpolation: what is compared, and how far apart it may be."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.doctor import resize_check
from edgedet_runtime.doctor.findings import Finding
from edgedet_runtime.doctor.resize_check import check_resize, exact_bilinear
from edgedet_runtime.spec import ResizeSpec
from tests.runtime.tiny_models import TINY_SPEC, random_image

AREA = ResizeSpec("stretch", interpolation="area-down")
SPEC = TINY_SPEC.replace(resize=ResizeSpec())


def by_hand(image: npt.NDArray[np.uint8], row: int, column: int, size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Mix the four neighbors of a pixel's center, in the image's own pixels."""
    y, x = ((at + 0.5) * old / new - 0.5 for at, old, new in zip((row, column), image.shape, size_hw, strict=False))
    mixed = np.zeros(3)
    for j in (int(np.floor(y)), int(np.floor(y)) + 1):
        for i in (int(np.floor(x)), int(np.floor(x)) + 1):
            part = (1 - abs(y - j)) * (1 - abs(x - i))
            mixed += part * image[min(max(j, 0), image.shape[0] - 1), min(max(i, 0), image.shape[1] - 1)]
    return mixed


@pytest.mark.parametrize("size_hw", [(8, 4), (3, 9), (5, 7), (11, 13), (1, 2)])
def test_exact_bilinear_mixes_four_neighbors(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    found = exact_bilinear(image, size_hw)
    assert found.shape == (*size_hw, 3)
    for row in range(size_hw[0]):
        for column in range(size_hw[1]):
            np.testing.assert_allclose(found[row, column], by_hand(image, row, column, size_hw), atol=1e-9)


@pytest.mark.parametrize(
    ("image_hw", "resize", "averaged"),
    [
        ((64, 97), AREA, True),
        ((65, 96), AREA, True),
        ((64, 96), AREA, False),
        ((64, 48), AREA, False),
        ((32, 96), AREA, False),
        ((32, 48), AREA, False),
        ((128, 192), ResizeSpec(), False),
    ],
)
def test_area_averaging_of_other_sizes_has_no_reference(
    image_hw: tuple[int, int], resize: ResizeSpec, averaged: bool
) -> None:
    found = check_resize(random_image(*image_hw), SPEC.replace(resize=resize))
    assert found.status == "ok"
    assert found.detail.startswith("area averaging" if averaged else "within ")


@pytest.mark.parametrize("image_hw", [(128, 192), (192, 288), (64, 288), (384, 576)])
def test_area_averaging_of_whole_blocks_is_exact(image_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image, spec = random_image(*image_hw), SPEC.replace(resize=AREA)
    assert check_resize(image, spec) == Finding("resize", "ok", "exact area averaging")
    right = resize_check.exact_area(image, (64, 96))
    wrong = right.copy()
    wrong[7, 9, 1] ^= 1
    monkeypatch.setattr(resize_check, "exact_area", lambda *_: wrong)
    assert check_resize(image, spec) == Finding("resize", "warning", "1 LSB from exact area averaging, expected 0")


def test_exact_area_by_hand() -> None:
    image = np.zeros((6, 4, 1), np.uint8)
    image[:3, :2, 0] = [[1, 0], [0, 0], [255, 0]]
    image[3:, 2:, 0] = [[255, 255], [255, 255], [255, 254]]
    assert resize_check.exact_area(image, (2, 2))[..., 0].tolist() == [[43, 0], [0, 255]]  # 256 / 6 and 1529 / 6
    halved_first = np.array([[2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 4]], np.uint8)[..., None]
    assert resize_check.exact_area(halved_first, (1, 1)).tolist() == [[[1]]]  # 1, 0, 0, 1, of which (2 + 2) // 4


@pytest.mark.parametrize(
    ("off", "finding"),
    [
        (0.4, Finding("resize", "ok", "within 0 LSB of exact bilinear interpolation")),
        (1.0, Finding("resize", "ok", "within 1 LSB of exact bilinear interpolation")),
        (-2.0, Finding("resize", "warning", "2 LSB from exact bilinear interpolation, expected 1")),
    ],
)
def test_one_step_of_a_byte_is_allowed(off: float, finding: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is as wide as the input and lies between two gray bars; one of its pixels is off."""

    def exact(image: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
        assert size_hw == (20, 96)
        pixels = image.astype(np.float64)
        pixels[3, 90, 1] += off
        return pixels

    monkeypatch.setattr(resize_check, "exact_bilinear", exact)
    assert check_resize(random_image(20, 96), SPEC) == finding
    side = SPEC.replace(input=dataclasses.replace(SPEC.input, height=96, width=64))
    monkeypatch.setattr(resize_check, "exact_bilinear", lambda image, _: image)
    assert check_resize(random_image(96, 20), side).detail.startswith("within 0 LSB")
