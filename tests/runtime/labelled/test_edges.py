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


@pytest.mark.parametrize(
    "bbox", [5, "1234", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], [1, 2, True, 4], [1, 2, -1, 4], [1, 2, 3, -4], None]
)
def test_a_bbox_is_four_numbers(bbox: Any) -> None:
    with pytest.raises(ValueError, match="expected a bbox"):
        read(bbox=bbox)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"area": -1}, "area of 0 or more"),
        ({"area": "7"}, "area of 0 or more"),
        ({"iscrowd": 2}, "iscrowd 0 or 1"),
        ({"iscrowd": "0"}, "iscrowd 0 or 1"),
        ({"image_id": 2}, "known image and category"),
        ({"image_id": True}, "known image and category"),
        ({"category_id": 0}, "known image and category"),
        ({"bbox": [100, 0, 5, 5]}, "meets its picture"),
        ({"bbox": [0, 80, 5, 5]}, "meets its picture"),
        ({"bbox": [-5, 0, 5, 5]}, "meets its picture"),
        ({"bbox": [0, -5, 5, 5]}, "meets its picture"),
    ],
    ids=str,
)
def test_what_an_annotation_may_not_say(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(**{"bbox": [1, 2, 3, 4], **fields})


def test_what_an_annotation_says() -> None:
    passed = Passed()
    entry = {"image_id": 1, "category_id": 3, "bbox": [99, 79, 5, 6]}
    _, found = read_annotation(entry, PICTURES, {3: 4}, passed)
    assert found is not None
    assert (found.class_id, found.xywh, found.area, found.crowd) == (4, (99, 79, 5, 6), 30.0, False)
    full = {**entry, "bbox": [-4, -5, 5, 6], "area": 7, "iscrowd": 1, "segmentation": {"counts": [], "size": [1, 1]}}
    _, found = read_annotation(full, PICTURES, {3: 4}, passed)
    assert found is not None
    assert (found.area, found.crowd) == (7.0, True)
    for side in ([1, 2, 0, 4], [1, 2, 3, 0]):
        assert read_annotation({**entry, "bbox": side}, PICTURES, {3: 4}, passed) == (1, None)
    assert (passed.run_lengths, passed.empty, passed.repeated) == (1, 2, 0)
    assert [note.split(": ", 1)[1][:3] for note in passed.notes(Path("x"))] == ["1 m", "2 b"]
