"""Reading labelled sets, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet.evaluation import load_dataset, match_classes
from edgedet_export.foreign.coco_names import COCO_CATEGORY_IDS, COCO_NAMES
from edgedet_runtime.errors import InputError


def picture(path: Path, size_wh: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((size_wh[1], size_wh[0], 3), np.uint8))


def coco(root: Path, **changes: Any) -> Path:
    data: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 18, "bbox": [1, 2, 10, 8], "area": 33.5, "iscrowd": 1},
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 5]},
        ],
    }
    data.update(changes)
    path = root / "instances_val.json"
    path.write_text(json.dumps(data))
    return path


def yolo(root: Path, text: str = "path: .\nval: images/val\nnames: [person, dog]\n") -> Path:
    for name in ("a", "b"):
        picture(root / f"images/val/{name}.jpg")
    (root / "labels/val").mkdir(parents=True)
    (root / "labels/val/a.txt").write_text("1 0.5 0.5 0.5 0.5\n\n0 0.1 0.2 0.9 0.2 0.9 0.6 0.1 0.6\n")
    path = root / "data.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("folder", [".", "images", "images/val", "val", "pictures"])
def test_coco_finds_pictures_and_keeps_area_and_crowd(tmp_path: Path, folder: str) -> None:
    picture(tmp_path / folder / "a.jpg")
    data = load_dataset(coco(tmp_path))
    assert data.classes == ("person", "dog")  # by category id
    assert data.category_ids == (1, 18)
    first, second = data.pictures
    assert first.path.is_file()
    np.testing.assert_array_equal(first.boxes_xyxy, [[1, 2, 11, 10], [0, 0, 4, 5]])
    np.testing.assert_array_equal(first.class_ids, [1, 0])
    assert first.areas is not None
    assert first.crowd is not None
    np.testing.assert_array_equal(first.areas, [33.5, 20])
    np.testing.assert_array_equal(first.crowd, [True, False])
    assert len(second.class_ids) == 0
    assert data.objects == 2


def test_yolo_reads_boxes_polygons_and_missing_files(tmp_path: Path) -> None:
    data = load_dataset(yolo(tmp_path))
    first, second = data.pictures
    np.testing.assert_allclose(first.boxes_px(40, 20), [[10, 5, 30, 15], [4, 4, 36, 12]])
    np.testing.assert_array_equal(first.class_ids, [1, 0])
    assert len(second.class_ids) == 0


@pytest.mark.parametrize(
    "names", ["names: {0: person, 1: dog}", "names: [person, dog]\nnc: 2", "names:\n  1: dog\n  0: person"]
)
def test_yolo_names_as_list_or_dict(tmp_path: Path, names: str) -> None:
    assert load_dataset(yolo(tmp_path, f"val: images/val\n{names}\n")).classes == ("person", "dog")


def test_yolo_list_file_and_split(tmp_path: Path) -> None:
    path = yolo(tmp_path, "val: images/val\ntest: [test.txt]\nnames: [person, dog]\n")
    (tmp_path / "test.txt").write_text("images/val/a.jpg\n")
    assert [p.path.name for p in load_dataset(path, split="test").pictures] == ["a.jpg"]
    with pytest.raises(InputError, match="'train', got val, test"):
        load_dataset(path, split="train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.5 0.5", "expected a class 0..1, got 2"),
        ("0 0.5 0.5 0.5", "expected class, x, y, width, height"),
        ("0 a b c d", "expected class, x, y, width, height"),
        ("0 nan 0.5 0.5 0.5", "expected class, x, y, width, height"),
        ("0.5 0.5 0.5 0.5 0.5", "expected class, x, y, width, height"),
    ],
)
def test_yolo_bad_labels_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = yolo(tmp_path)
    (tmp_path / "labels/val/b.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    with pytest.raises(InputError, match=message) as info:
        load_dataset(path)
    assert "b.txt:2" in str(info.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: images/none\nnames: [a]", "which is none"),
        ("names: [a]", "expected a key 'val'"),
        ("val: images/val\nnames: [a]\nnc: 2", "nc 2 and 1 names"),
        ("val: images/val\nnames: {0: a, 2: b}", r"0\.\.1"),
        ("val: images/val", "names: expected"),
        ("- a\n- b", "keys such as val"),
        ("val: [", "no YAML"),
        ("val: !!python/object/apply:os.system ['true']\nnames: [a]", "no YAML"),
    ],
)
def test_yolo_bad_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as info:
        load_dataset(yolo(tmp_path, text))
    assert "\n" not in str(info.value)


def test_yolo_without_pictures_or_labels(tmp_path: Path) -> None:
    path = yolo(tmp_path)
    (tmp_path / "labels/val/a.txt").unlink()
    with pytest.raises(InputError, match="expected label files"):
        load_dataset(path)
    for file in (tmp_path / "images/val").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="found none"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "at least one entry under 'images'"),
        ({"categories": []}, "at least one entry under 'categories'"),
        ({"annotations": "x"}, "list 'annotations'"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "known image and category"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, "'bbox'"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, -1, 1]}]}, "finite sides"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0]}]}, "four numbers"),
        ({"images": [{"id": 7, "file_name": "gone.jpg"}]}, "known image|neither beside it"),
    ],
)
def test_bad_coco(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    picture(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=message):
        load_dataset(coco(tmp_path, **changes))


def test_other_files(tmp_path: Path) -> None:
    for name, data in {"x.json": b"{", "y.json": b"[]", "z.json": b"\xff\xfe", "w.txt": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError):
            load_dataset(tmp_path / name)
    with pytest.raises(InputError, match="no file"):
        load_dataset(tmp_path / "none.json")


def test_images_folder_given(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "deep" / "er"
    picture(elsewhere / "a.jpg")
    path = coco(tmp_path)
    with pytest.raises(InputError, match="use `images`"):
        load_dataset(path)
    assert load_dataset(path, images=elsewhere).pictures[0].path == elsewhere / "a.jpg"
    with pytest.raises(InputError, match="not there"):
        load_dataset(path, images=tmp_path)


def test_class_subset_and_limit(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    data = load_dataset(coco(tmp_path), classes=["Dog"], limit=1)
    assert data.classes == ("dog",)
    assert len(data.pictures) == 1
    np.testing.assert_array_equal(data.pictures[0].class_ids, [0])
    assert data.pictures[0].areas is not None
    np.testing.assert_array_equal(data.pictures[0].areas, [33.5])
    with pytest.raises(InputError, match="cat"):
        load_dataset(coco(tmp_path), classes=["cat"])
    with pytest.raises(InputError, match="positive"):
        load_dataset(coco(tmp_path), limit=0)


def test_match_classes(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    data = load_dataset(coco(tmp_path))
    np.testing.assert_array_equal(match_classes(data, COCO_NAMES), [0, 16])
    np.testing.assert_array_equal(match_classes(data, ["DOG", "Person"]), [1, 0])
    np.testing.assert_array_equal(match_classes(data, ["class0", "class1"]), [0, 1])
    with pytest.raises(InputError, match="dog"):
        match_classes(data, ["person", "cat"])
    with pytest.raises(InputError, match="its 3"):
        match_classes(data, ["class0", "class1", "class2"])


def test_other_spellings_match(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    data = load_dataset(coco(tmp_path, categories=[{"id": 1, "name": "TVmonitor"}, {"id": 18, "name": "aero_plane"}]))
    assert match_classes(data, ["aero plane", "tv"]).tolist() == [1, 0]


def test_coco_numbering() -> None:
    assert len(COCO_NAMES) == len(COCO_CATEGORY_IDS) == 80
    numbers = dict(zip(COCO_NAMES, COCO_CATEGORY_IDS, strict=True))
    assert (numbers["person"], numbers["stop sign"], numbers["backpack"], numbers["toothbrush"]) == (1, 13, 27, 90)
