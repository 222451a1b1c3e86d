"""COCO's json in all its forms, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled import load_dataset

_IMAGE = {"id": 7, "file_name": "sub/a.png", "width": 40, "height": 20}
_BOX: dict[str, Any] = {"image_id": 7, "category_id": 18, "bbox": [1, 2, 10, 8]}
_CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]


def _coco(root: Path, **changes: Any) -> Path:
    for name in ("a", "b"):
        (root / "images/sub").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"images/sub/{name}.png"), np.zeros((20, 40, 3), np.uint8))
    data = {"images": [_IMAGE], "categories": _CATEGORIES, "annotations": [_BOX], **changes}
    path = root / "c.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("annotations", "boxes", "note"),
    [
        ([_BOX], [[1, 2, 11, 10]], ""),
        ([{**_BOX, "image_id": 7.0}], [[1, 2, 11, 10]], ""),
        ([_BOX, {**_BOX, "id": 5}], [[1, 2, 11, 10]], "1 objects say the same"),
        ([_BOX, {**_BOX, "bbox": [1, 2, 0, 8]}], [[1, 2, 11, 10]], "1 boxes without an area"),
        ([{**_BOX, "segmentation": {"counts": "x", "size": [2, 2]}}], [[1, 2, 11, 10]], "1 masks in run lengths"),
        (
            [{"image_id": 7, "category_id": 3, "segmentation": [[1, 2, 9, 2, 9, 7], [0, 3, 1, 3, 1, 4]]}],
            [[0, 2, 9, 7]],
            "",
        ),
        ([{**_BOX, "bbox": [-5, -5, 100, 100]}], [[-5, -5, 95, 95]], ""),
        ([], np.zeros((0, 4)), ""),
    ],
)
def test_annotations(tmp_path: Path, annotations: list[Any], boxes: Any, note: str) -> None:
    data = load_dataset(_coco(tmp_path, annotations=annotations))
    np.testing.assert_array_equal(data.pictures[0].boxes_xyxy, boxes)
    assert data.pictures[0].path == tmp_path / "images/sub/a.png"
    assert data.classes == ("cat", "dog")
    assert [note in text for text in data.notes] == ([True] if note else [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": [{**_BOX, "image_id": 8}]},
            "annotations[0]: expected a known image and category, got image 8",
        ),
        ({"annotations": [{**_BOX, "image_id": [7]}]}, "expected a known image and category"),
        ({"annotations": [{**_BOX, "category_id": {}}]}, "expected a known image and category"),
        ({"annotations": [{**_BOX, "bbox": [1, 2, 3]}]}, "bbox of four numbers"),
        ({"annotations": [{**_BOX, "bbox": "1234"}]}, "bbox of four numbers"),
        ({"annotations": [{**_BOX, "bbox": [1, 2, 3, True]}]}, "bbox of four numbers"),
        ({"annotations": [{**_BOX, "bbox": [1, 2, float("nan"), 4]}]}, "bbox of four numbers"),
        ({"annotations": [{**_BOX, "bbox": [1, 2, float("inf"), 4]}]}, "bbox of four numbers"),
        ({"annotations": [{**_BOX, "bbox": [1, 2, 10**400, 4]}]}, "bbox of four numbers"),
        ({"annotations": [{**_BOX, "bbox": [1, 2, -3, 4]}]}, "finite sides"),
        ({"annotations": [{**_BOX, "bbox": [40, 2, 3, 4]}]}, "a bbox that meets its picture of [40, 20]"),
        ({"annotations": [{**_BOX, "bbox": [-9, 2, 3, 4]}]}, "a bbox that meets its picture"),
        ({"annotations": [{**_BOX, "area": "x"}]}, "expected an area of 0 or more"),
        ({"annotations": [{**_BOX, "iscrowd": 2}]}, "expected iscrowd 0 or 1"),
        ({"annotations": [{**_BOX, "iscrowd": []}]}, "expected iscrowd 0 or 1"),
        ({"annotations": [{"image_id": 7, "category_id": 3}]}, "expected the field 'bbox'"),
        ({"annotations": [3]}, "expected the field 'image_id', got 3"),
        ({"images": [_IMAGE, _IMAGE]}, "images[1]: expected an id of its own, got 7"),
        ({"images": [{"id": [], "file_name": "a"}]}, "expected a number as id, got []"),
        ({"images": [{"id": 1, "file_name": 5}]}, "expected a text as file_name, got 5"),
        ({"images": [{"id": 1}]}, "expected the field 'file_name'"),
        ({"images": [{**_IMAGE, "file_name": "a" * 5000}]}, "is neither beside it"),
        ({"images": [{**_IMAGE, "file_name": "a\0b"}]}, "is neither beside it"),
        ({"images": [{**_IMAGE, "file_name": "\ud800\x1b[31m"}]}, "is neither beside it"),
        ({"images": [{**_IMAGE, "width": "x"}]}, "a picture with width and height above 0"),
        ({"categories": [*_CATEGORIES, {"id": 3, "name": "x"}]}, "categories[2]: expected an id of its own"),
        ({"categories": [{"id": "18", "name": "x"}]}, "expected a number as id"),
        ({"categories": None}, "with a list 'categories'"),
    ],
)
def test_faults_are_one_short_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(_coco(tmp_path, **changes))
    text = str(caught.value)
    assert message in text
    assert text.isprintable()
    assert len(text) < 600


def test_faults_are_counted(tmp_path: Path) -> None:
    bad = [{**_BOX, "image_id": 8}, {**_BOX, "bbox": [1, 2, -3, 4]}, _BOX]
    with pytest.raises(
        InputError, match=r"\(2 faults in 1 file: 1 such; 1 expected a bbox with .*, first at annotations\[1\]\)$"
    ):
        load_dataset(_coco(tmp_path, annotations=bad))


@pytest.mark.parametrize(
    "data", [b'{"images": ' + b"[" * 100_000, b'{"images": [' + b"9" * 10_000 + b"]}", b"\xff\xfe{"]
)
def test_json_that_breaks_readers(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match="COCO json"):
        load_dataset(path)


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    gone = [{"id": n, "file_name": f"sub/{n}.png"} for n in range(3)]
    data = load_dataset(_coco(tmp_path, images=[_IMAGE, *gone]))
    with pytest.raises(InputError, match=r"0\.png, which is not there; 3 of its 4 pictures are missing"):
        data.check_pictures()
