"""Corners of labelled data that well-formed files never show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled.coco_boxes import Passed, read_annotation
from edgedet_runtime.labelled.data_yaml import _keypoint_values

PICTURES: dict[Any, dict[str, Any]] = {1: {"id": 1, "width": 100, "height": 80}}


def read(**fields: Any) -> tuple[float, float, float, float]:
    entry = {"id": 5, "image_id": 1, "category_id": 3, **fields}
    picture, found = read_annotation(entry, PICTURES, {3: 0}, Passed())
    assert picture == 1
    assert found is not None
    return found.xywh


def test_a_box_around_what_polygons_there_are() -> None:
    whole = [10, 20, 40, 20, 40, 50]
    assert read(segmentation=[whole]) == (10, 20, 30, 30)
    other = [0, 30, 5, 60]
    assert read(segmentation=[whole, other]) == (0, 20, 40, 40)
    others: list[Any] = [
        [whole, 7],
        [whole, [1, 2, 3]],
        [whole, "ab"],
        [],
        [[]],
        None,
        [[1, 2, "3", 4]],
        [[1, 2, True, 4]],
    ]
    for bad in others:
        with pytest.raises(ValueError, match="or polygons of x, y, x, y"):
            read(segmentation=bad)


def test_a_mask_in_run_lengths_is_no_box() -> None:
    with pytest.raises(ValueError, match="bbox"):
        read(segmentation={"counts": [1, 2, 3], "size": [80, 100]})


@pytest.mark.parametrize("shape", [["٣", "2"], ["17", "-3"], ["17"], ["17", "3", "1"], "17", ["100000", "1"]], ids=str)
def test_keypoints_are_two_small_numbers(shape: Any) -> None:
    with pytest.raises(InputError, match="kpt_shape: expected two numbers"):
        _keypoint_values(Path("data.yaml"), {"kpt_shape": shape})
    assert _keypoint_values(Path("data.yaml"), {"kpt_shape": ["17", "3"]}) == 51
