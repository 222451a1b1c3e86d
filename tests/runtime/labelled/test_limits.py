"""Where each limit of labelled data lies, to the last value that is still taken, and what messages quote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled import Labelled, LabelledSet, load_dataset, match_classes
from edgedet_runtime.labelled.bounded_yaml import read_yaml
from edgedet_runtime.labelled.classes import subset
from edgedet_runtime.labelled.coco_boxes import Annotation, Passed, read_annotation
from edgedet_runtime.labelled.coco_json import read_coco
from edgedet_runtime.labelled.faults import Faults, exists
from edgedet_runtime.labelled.yolo_labels import LabelRules, label_file, read_labels
from edgedet_runtime.short import short


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("set/images/val/a.b.png", "set/labels/val/a.b.txt"),
        ("images/x/images/y.jpg", "images/x/labels/y.txt"),
        ("set/images/images", "set/labels/images.txt"),
        ("images", "images.txt"),
        ("/images/a.jpg", "/labels/a.txt"),
        ("my-images/a.jpg", "my-images/a.txt"),
        ("a.jpg", "a.txt"),
    ],
)
def test_where_labels_stand(picture: str, labels: str) -> None:
    assert label_file(Path(picture)) == Path(labels)


def parsed(
    path: Path, text: str, rules: LabelRules | None = None
) -> tuple[list[int], list[tuple[float, ...]], int, str]:
    """Return what a label file says, and its faults."""
    file, faults = path / "a.txt", Faults()
    file.write_text(text)
    ids, boxes, again = read_labels(file, LabelRules(3) if rules is None else rules, faults)
    try:
        faults.check()
    except InputError as e:
        return ids, [*boxes], again, str(e)
    return ids, [*boxes], again, ""


@pytest.mark.parametrize(
    ("line", "ids", "boxes"),
    [
        ("2 0.5 0.25 0.5 0.125", [2], [(0.25, 0.1875, 0.75, 0.3125)]),
        ("0 -0.01 1.01 0.5 0.25", [0], [(-0.26, 0.885, 0.24, 1.135)]),
        ("1 .1 .2 .3 .2 .3 .5", [1], [(0.1, 0.2, 0.3, 0.5)]),
        ("1 .3 .5 .1 .9 .2 .7 .25 .6", [1], [(0.1, 0.5, 0.3, 0.9)]),
        ("1 -.01 0 1.01 0 1 1", [1], [(-0.01, 0, 1.01, 1)]),
        ("1 .5 .5 .2 .2\n2 .5 .5 .2 .2", [1, 2], [(0.4, 0.4, 0.6, 0.6)] * 2),
    ],
)
def test_lines_that_are_taken(line: str, ids: list[int], boxes: list[Any], tmp_path: Path) -> None:
    got_ids, got, again, fault = parsed(tmp_path, line)
    assert (got_ids, again, fault) == (ids, 0, "")
    np.testing.assert_allclose(got, boxes, atol=1e-12)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 -0.011 0.5 0.5 0.25", "expected coordinates in 0..1"),
        ("0 0.5 1.011 0.5 0.25", "expected coordinates in 0..1"),
        ("0 0.5 0.5 1.011 0.25", "expected coordinates in 0..1"),
        ("0 .5 .5 .1 0", "width and height above 0"),
        ("0 .5 .5 0 .1", "width and height above 0"),
        ("0 .1 .1 .5 .1 .9 .1", "a polygon with a width and height above 0"),
        ("0 .1 .1 .1 .5 .1 .9", "a polygon with a width and height above 0"),
        ("3 .5 .5 .1 .1", "expected a class 0..2, got 3"),
        ("-1 .5 .5 .1 .1", "expected a class 0..2, got -1"),
        ("0 .1 .2 .3 .4 .5 .6 .7", "three or more points"),
        ("0 .1 .2", "three or more points"),
    ],
)
def test_lines_that_are_not(line: str, words: str, tmp_path: Path) -> None:
    ids, boxes, again, fault = parsed(tmp_path, line)
    assert (ids, boxes, again) == ([], [], 0)
    assert words in fault
    assert f"{tmp_path}/a.txt:1: " in fault


@pytest.mark.parametrize(("share", "asked"), [("1.5", False), ("2.0", False), ("2.1", True), ("640", True)])
def test_only_what_is_far_beyond_one_may_be_pixels(share: str, asked: bool, tmp_path: Path) -> None:
    assert parsed(tmp_path, f"0 .5 .5 {share} .5")[3].endswith("; are they pixels?") is asked


def test_keypoints_follow_the_box(tmp_path: Path) -> None:
    rules = LabelRules(None, keypoint_values=4)
    assert parsed(tmp_path, "7 .5 .5 .2 .2 9 9 9 9", rules)[:2] == ([7], [(0.4, 0.4, 0.6, 0.6)])
    assert parsed(tmp_path, "7 .5 .5 .2 .2", rules)[0] == [7]
    for line in ("0 .1 .1 .2 .2 .3 .3", "0 .5 .5 .2 .2 9 9 9", "0 .1 .1 .2 .2 .3 .3 .4 .4 .5 .5"):
        assert "three or more points" in parsed(tmp_path, line, rules)[3], "no polygons where there are keypoints"
    assert "expected a class of 0 or more, got -1" in parsed(tmp_path, "-1 .5 .5 .2 .2", rules)[3]


def test_a_wrong_line_or_file_does_not_hide_the_next(tmp_path: Path) -> None:
    text = "0 .5 .5 .2 .2\n\n  \nx\n0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n"
    ids, boxes, again, fault = parsed(tmp_path, text)
    assert (ids, len(boxes), again) == ([0, 1], 2, 2)
    assert f"{tmp_path}/a.txt:4: " in fault
    (tmp_path / "b.txt").write_bytes(b"\xff")
    faults = Faults()
    assert read_labels(tmp_path / "b.txt", LabelRules(3), faults) == ([], [], 0)
    with pytest.raises(InputError, match="labels: expected a text file"):
        faults.check()
    assert read_labels(tmp_path / "gone.txt", LabelRules(3), Faults()) == ([], [], 0)


PICTURE: dict[str, Any] = {"id": 1, "width": 100, "height": 80}


def annotation(picture: dict[str, Any] = PICTURE, **fields: Any) -> Annotation | None:
    entry = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], **fields}
    return read_annotation(entry, {1: picture}, {3: 0}, Passed())[1]


@pytest.mark.parametrize(
    "bbox",
    [
        [-0.95e12, 0, 0.96e12, 1],
        [0, -0.95e12, 1, 0.96e12],
        [99.5, 79.5, 1, 1],
        [-4.5, -4.5, 5, 5],
        [0, 0, 0.95e12, 0.5],
    ],
    ids=str,
)
def test_boxes_that_are_taken(bbox: list[float]) -> None:
    found = annotation(bbox=bbox)
    assert found is not None
    assert found.xywh == tuple(bbox)
    assert found.area == bbox[2] * bbox[3]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bbox": [0, 0, 1e12, 5]}, "a bbox of four numbers"),
        ({"bbox": [-1e12, 0, 2, 5]}, "a bbox of four numbers"),
        ({"bbox": [0, 0, 5, 1.05e12]}, "a bbox of four numbers"),
        ({"bbox": [-1.05e12, 0, 5, 5]}, "a bbox of four numbers"),
        ({"bbox": [-5, 0, 5, 5]}, "meets its picture"),
        ({"bbox": [100, 0, 5, 5]}, "meets its picture"),
        ({"bbox": [0, 80, 5, 5]}, "meets its picture"),
        ({"area": 1e12}, "an area of 0 or more"),
        ({"area": True}, "an area of 0 or more"),
        ({"area": -0.5}, "an area of 0 or more"),
        ({"iscrowd": 0.5}, "iscrowd 0 or 1"),
        ({"image_id": None}, "known image and category"),
        ({"category_id": True}, "known image and category"),
        ({"category_id": 4}, "known image and category"),
    ],
    ids=str,
)
def test_annotations_that_are_not(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        annotation(**fields)


def test_an_area_may_be_nothing_and_a_crowd_be_a_truth_value() -> None:
    for area, crowd in ((0, True), (0.0, 1.0), (7, False)):
        found = annotation(area=area, iscrowd=crowd)
        assert found is not None
        assert (found.area, found.crowd) == (area, bool(crowd))


@pytest.mark.parametrize("sides", [(0, 80), (100, 0), (-1, 80), (True, 80), ("100", 80), (100, float("nan"))], ids=str)
def test_a_picture_has_sides_above_nothing(sides: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="a picture with width and height above 0"):
        annotation({"id": 1, "width": sides[0], "height": sides[1]})


def test_a_picture_whose_size_is_not_told_takes_boxes_of_any_place() -> None:
    assert annotation({"id": 1}, bbox=[5000, 5000, 3, 4]) is not None
    assert annotation({"id": 1, "width": 100}, bbox=[0, 5000, 3, 4]) is not None
    assert annotation({"id": 1, "width": 1, "height": 1}, bbox=[0, 0, 3, 4]) is not None
    for picture, bbox in (({"id": 1, "width": 100}, [100, 0, 3, 4]), ({"id": 1}, [-3, 0, 3, 4])):
        with pytest.raises(ValueError, match="meets its picture"):
            annotation(picture, bbox=bbox)


def test_what_is_passed_over_is_counted_by_kind() -> None:
    passed = Passed(3, 2, 5)
    assert passed.notes(Path("c.json")) == (
        "c.json: 3 masks in run lengths (RLE) are not read; their boxes count",
        "c.json: 2 boxes without an area are left out",
        "c.json: 5 objects say the same as another of their picture and count once",
    )
    assert Passed().notes(Path("c.json")) == ()
    entry = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
    counted = Passed()
    kinds: list[dict[str, Any]] = [
        {},
        {"segmentation": {}},
        {"segmentation": {}, "bbox": [1, 2, 0, 4]},
        {"bbox": [1, 2, 3, 0]},
    ]
    for more in kinds:
        read_annotation({**entry, **more}, {1: PICTURE}, {3: 0}, counted)
    assert counted == Passed(run_lengths=2, empty=2)


PLACES = ("ann", "ann/val", "ann/images", "ann/images/val", ".", "val", "images", "images/val", "ann/a", "ann/a/deep")


def coco(root: Path, **changes: Any) -> Path:
    data = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 8]}],
        **changes,
    }
    path = root / "ann" / "instances_val.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("first", range(len(PLACES)), ids=lambda at: PLACES[at])
def test_pictures_are_looked_for_in_one_order(first: int, tmp_path: Path) -> None:
    path = coco(tmp_path)
    for place in PLACES[first:]:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "a.jpg").touch()
    assert load_dataset(path).pictures[0].path == tmp_path / PLACES[first] / "a.jpg"


def test_other_folders_are_looked_through_by_name(tmp_path: Path) -> None:
    path = coco(tmp_path)
    for place in ("zoo", "bar", "foo/x"):
        (tmp_path / "ann" / place).mkdir(parents=True)
        (tmp_path / "ann" / place / "a.jpg").touch()
    assert load_dataset(path).pictures[0].path.parent.name == "bar"
    (tmp_path / "ann/bar/a.jpg").unlink()
    (tmp_path / "ann/zoo/a.jpg").unlink()
    (tmp_path / "ann/foo/b").mkdir()
    (tmp_path / "ann/foo/b/a.jpg").touch()
    assert load_dataset(path).pictures[0].path.parent.name == "b"


def test_a_folder_of_pictures_that_was_named_is_the_only_one(tmp_path: Path) -> None:
    path = coco(tmp_path)
    (tmp_path / "ann/a.jpg").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.jpg").touch()
    assert load_dataset(path, images=tmp_path / "full").pictures[0].path == tmp_path / "full/a.jpg"
    with pytest.raises(InputError, match=r"images: expected a folder, got .*gone, which is none"):
        load_dataset(path, images=tmp_path / "gone")
    with pytest.raises(InputError, match=r"images: expected 'a\.jpg' in .*empty, as instances_val\.json says"):
        load_dataset(path, images=tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [{"id": 7.5, "file_name": "a.jpg"}]}, "expected a number as id, got 7.5"),
        ({"images": [{"id": True, "file_name": "a.jpg"}]}, "expected a number as id, got True"),
        ({"images": [{"id": 7, "file_name": ""}]}, "expected a text as file_name, got ''"),
        ({"images": [{"file_name": "a.jpg"}]}, "expected the field 'id'"),
        ({"images": [3]}, "images[0]: expected the field 'id', got 3"),
        ({"categories": [{"id": "3", "name": "cat"}]}, "expected a number as id, got '3'"),
        ({"categories": [{"id": False, "name": "cat"}]}, "expected a number as id, got False"),
        ({"categories": [{"id": 3, "name": None}]}, "expected a text as name, got None"),
        ({"categories": []}, "at least one entry under 'categories'"),
        ({"categories": [], "images": []}, "at least one entry under 'images'"),
    ],
    ids=str,
)
def test_entries_that_are_none(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/a.jpg").touch()
    with pytest.raises(InputError) as caught:
        load_dataset(coco(tmp_path, **changes))
    assert words in str(caught.value)


def test_numbers_written_as_floats_and_names_as_ids(tmp_path: Path) -> None:
    pictures = [{"id": 7.0, "file_name": "a.jpg"}, {"id": "x", "file_name": "b.jpg"}]
    objects = [{"image_id": "x", "category_id": 3.0, "bbox": [1, 2, 10, 8]}]
    path = coco(tmp_path, images=pictures, annotations=objects, categories=[{"id": 3.0, "name": "cat"}])
    (tmp_path / "ann/a.jpg").touch()
    data = load_dataset(path)
    assert [len(p.class_ids) for p in data.pictures] == [0, 1]
    assert data.category_ids == (3,)
    assert isinstance(data.category_ids[0], int)
    assert [len(p.class_ids) for p in load_dataset(path, limit=1).pictures] == [0]


def test_calibration_needs_no_more_than_names_of_pictures(tmp_path: Path) -> None:
    path = coco(tmp_path)
    (tmp_path / "ann/a.jpg").touch()
    path.write_text(json.dumps({"images": [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}]}))
    assert [p.path.name for p in load_dataset(path, need_labels=False).pictures] == ["a.jpg", "b.jpg"]
    with pytest.raises(InputError, match="with a list 'categories'"):
        load_dataset(path)
    for images, words in (([3], "field 'id'"), (None, "with a list 'images'"), ([], "entry under 'images'")):
        path.write_text(json.dumps({"images": images}))
        with pytest.raises(InputError, match=words):
            load_dataset(path, need_labels=False)
    labelled = coco(tmp_path, images=[{"file_name": "a.jpg"}])
    with pytest.raises(InputError, match="field 'id'"):
        load_dataset(labelled, need_labels=False)
    assert load_dataset(coco(tmp_path), need_labels=False).objects == 1


def test_a_json_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json: cannot be read \(No such file"):
        read_coco(tmp_path / "gone.json", need_labels=True)


def yolo(root: Path, text: str) -> Path:
    for name in ("a", "b"):
        (root / "images").mkdir(exist_ok=True)
        (root / f"images/{name}.jpg").touch()
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels/a.txt").write_text("0 .5 .5 .2 .2\n")
    path = root / "data.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("count", ["0", "100001", "0000001", "1e2", "-1", "٣", "''", "9999999999"])
def test_a_number_of_classes_that_is_none(count: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nc: expected"):
        load_dataset(yolo(tmp_path, f"val: images\nnc: {count}\n"))


@pytest.mark.parametrize("count", [1, 100_000])
def test_numbers_of_classes(count: int, tmp_path: Path) -> None:
    assert len(load_dataset(yolo(tmp_path, f"val: images\nnc: {count}\n")).classes) == count


@pytest.mark.parametrize(("shape", "taken"), [("[99999, 1]", True), ("[100000, 1]", False), ("[1, 1, 1]", False)])
def test_a_shape_of_keypoints(shape: str, taken: bool, tmp_path: Path) -> None:
    path = yolo(tmp_path, f"val: images\nnames: [x]\nkpt_shape: {shape}\n")
    if taken:
        assert load_dataset(path).objects == 1
    else:
        with pytest.raises(InputError, match="kpt_shape: expected two numbers"):
            load_dataset(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [x]", "expected a key 'val', got none of train, val, test"),
        ("names: [x]\ntrain: images\ntest: images", "expected a key 'val', got train, test"),
        ("names: [x]\nval: [images, '']", "val: expected folders or .txt lists, got ''"),
        ("names: [x]\nval: images\nnames2: {[a]: b}", "line 3: a key that is no text"),
        ("names: [x]\nval: {}", "expected a key 'val'"),
        ("names: []\nval: images", "names: expected a list or numbered names, got []"),
        ("names: {}\nval: images", "names: expected a list or numbered names, got []"),
        ("names: {1: x, 2: y}\nval: images", "expected the numbers 0..1, got [1, 2]"),
        ("names: {0: x, 00: y}\nval: images", "expected the numbers 0..1, got [0]"),
    ],
)
def test_what_a_data_yaml_may_not_say(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(yolo(tmp_path, text))
    assert words in str(caught.value)


def test_of_several_splits_the_first_that_there_is(tmp_path: Path) -> None:
    path = yolo(tmp_path, "train:\nval: images\ntest: gone\nnames: [x]\n")
    assert len(load_dataset(path, split=("train", "val", "test")).pictures) == 2
    with pytest.raises(InputError, match="expected a key 'train' or 'other', got val, test"):
        load_dataset(path, split=("train", "other"))


def test_lines_of_a_list_are_counted_from_one(tmp_path: Path) -> None:
    path = yolo(tmp_path, "val: list.txt\nnames: [x]\n")
    (tmp_path / "list.txt").write_text("images/a.jpg\n\nimages/gone.jpg\nimages/also-gone.jpg\n")
    with pytest.raises(InputError, match=r"list\.txt:3: expected a picture, got 'images/gone\.jpg'.*\(2 such faults"):
        load_dataset(path)
    (tmp_path / "labels/a.txt").unlink()
    with pytest.raises(InputError, match=r"list\.txt:3: expected a picture"):
        load_dataset(path)
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"val: expected pictures, found none in 'list\.txt'"):
        load_dataset(path)


def test_names_in_a_list_are_looked_for_beside_it_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = yolo(tmp_path, "path: data\nval: lists/val.txt\nnames: [x]\n")
    for place in ("lists", "data", "work/data"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "c.jpg").touch()
    (tmp_path / "c.jpg").touch()
    (tmp_path / "work/c.jpg").touch()
    (tmp_path / "lists/val.txt").write_text("c.jpg\n")
    monkeypatch.chdir(tmp_path / "work")

    def found() -> str:
        data = load_dataset(path, need_labels=False)
        return str(data.pictures[0].path.relative_to(tmp_path))

    for place in ("lists/c.jpg", "data/c.jpg", "c.jpg", "work/data/c.jpg"):
        assert found() == place
        (tmp_path / place).unlink()
    with pytest.raises(InputError, match=r"'c\.jpg', which is not there"):
        found()


def test_labels_that_are_needed(tmp_path: Path) -> None:
    path = yolo(tmp_path, "val: images\nnames: [x]\n")
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n")
    (tmp_path / "labels/b.txt").write_text("0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n")
    data = load_dataset(path)
    assert data.notes == (f"{path}: 3 labels say the same as another of their file and count once",)
    assert [p.relative for p in data.pictures] == [True, True]
    for name in ("a", "b"):
        (tmp_path / f"labels/{name}.txt").unlink()
    with pytest.raises(InputError, match=r"expected label files such as .*labels/a\.txt, found none for 2 pictures"):
        load_dataset(path)
    assert load_dataset(path, need_labels=False).classes == ("x",)
    assert load_dataset(yolo(tmp_path, "val: images"), need_labels=False).classes == ()


def test_a_yaml_is_nested_up_to_twenty_deep(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    for depth, taken in ((18, True), (19, False)):  # the mapping and the text are levels too
        path.write_text(f"val: {'[' * depth}x{']' * depth}\n" + "".join(f"k{i}: [[x], [y]]\n" for i in range(30)))
        if taken:
            assert len(read_yaml(path)) == 31
        else:
            with pytest.raises(InputError, match="nested more than 20 deep"):
                read_yaml(path)


def test_a_yaml_has_four_megabytes_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("#" + "x" * 4_000_000)
    with pytest.raises(InputError, match="larger than 4 MB"):
        read_yaml(path)
    path.write_text("val: x\n#".ljust(4_000_000, "x"))
    assert read_yaml(path) == {"val": "x"}
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "gone.yaml")


def test_values_of_a_yaml_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("a: &x [1, no, 1e9, ~, null, '', 2020-01-01]\nb: *x\nc: {0: *x}\n? d\n: ''\n")
    tree = read_yaml(path)
    assert tree == {"a": (x := ["1", "no", "1e9", None, None, "", "2020-01-01"]), "b": x, "c": {"0": x}, "d": ""}
    assert tree["a"] is tree["b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2, 3, 4], "[1, 2, 3, 4]"),
        ([1, 2, 3, 4, 5], "[1, 2, 3, 4, ...]"),
        ((1, 2, 3, 4, 5), "(1, 2, 3, 4, ...)"),
        ({1: 2, 3: 4, 5: 6, 7: 8, 9: 0}, "{1: 2, 3: 4, 5: 6, 7: 8, ...}"),
        ({1: 2, 3: 4, 5: 6, 7: 8}, "{1: 2, 3: 4, 5: 6, 7: 8}"),
        ([[1]], "[[1]]"),
        ([[[1]]], "[[[...]]]"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 27 + "..." + "x" * 28 + "'"),
        (10**59, "1" + "0" * 59),
        (10**60, "1" + "0" * 27 + "..." + "0" * 29),
        ("é\n", r"'\xe9\n'"),
        ("\u20ac" * 20, "'" + "\\u20ac" * 19 + "\\u20a…"),
        ("\u20ac" * 19 + "abcd", "'" + "\\u20ac" * 19 + "abcd'"),
    ],
    ids=repr,
)
def test_values_are_quoted_in_few_characters(value: object, text: str) -> None:
    assert short(value) == text


def test_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert [exists(tmp_path / n) for n in ("f", ".", "gone", "x" * 999, "\0")] == [True, False, False, False, False]
    assert [exists(tmp_path / n, folder=True) for n in ("f", ".", "x" * 999, "\0")] == [False, True, False, False]


def test_faults_in_words() -> None:
    faults = Faults()
    faults.check()
    faults.add("a", 3, "x")
    with pytest.raises(InputError, match=r"^a:3: x$"):
        faults.check()
    faults.add(Path("a"), "here", "y")
    with pytest.raises(InputError, match=r"^a:3: x \(2 faults in 1 file: 1 such; 1 y, first at here\)$"):
        faults.check()
    faults.add("b", "here", "y, got 7")
    faults.add("b", 9, "x, got 8")
    with pytest.raises(InputError, match=r"^a:3: x \(4 faults in 2 files: 2 such; 2 y, first at here\)$"):
        faults.check()
    for number, kind in enumerate("zzuv", 1):
        faults.add("b", number, kind)
    words = "2 such; 2 y, first at here; 2 z, first at b:1; 1 u, first at b:3; 1 of other kinds"
    with pytest.raises(InputError, match=rf"^a:3: x \(8 faults in 2 files: {words}\)$"):
        faults.check()


def test_faults_of_one_kind_in_words() -> None:
    faults = Faults()
    faults.add("a", 3, "expected x, got 1")
    faults.add("b", 1, "expected x, got 2")
    faults.add("b", 2, "expected x, got 3, got 4")
    with pytest.raises(InputError, match=r"^a:3: expected x, got 1 \(3 such faults in 2 files\)$"):
        faults.check()
    faults = Faults()
    faults.add("b", "here", "y")
    with pytest.raises(InputError, match=r"^b: here: y$"):
        faults.check()


def labelled(*classes: str) -> LabelledSet:
    boxes = np.arange(12.0).reshape(3, 4)
    one = Labelled(
        Path("p"), boxes, np.array([0, 2, 1]), areas=np.array([5.0, 6, 7]), crowd=np.array([True, False, False])
    )
    bare = Labelled(Path("q"), boxes[:1] / 12, np.array([2]), relative=True)
    return LabelledSet(Path("set"), classes, (one, bare), tuple(range(10, 10 + len(classes))))


def test_a_subset_renumbers_its_classes() -> None:
    found = subset(labelled("a", "b", "c"), ["C", "a"])
    assert (found.classes, found.category_ids, found.objects) == (("c", "a"), (12, 10), 3)
    one, bare = found.pictures
    assert (one.class_ids.tolist(), one.boxes_xyxy[:, 0].tolist()) == ([1, 0], [0, 4])
    assert one.areas is not None
    assert one.crowd is not None
    assert (one.areas.tolist(), one.crowd.tolist()) == ([5, 6], [True, False])
    assert (bare.class_ids.tolist(), bare.areas, bare.crowd) == ([0], None, None)
    assert subset(replace(labelled("a", "b", "c"), category_ids=()), ["b"]).category_ids == ()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("abcdef", r"\(a, b, c, d, e, f\), got x, y$"),
        ("abcdefg", r"\(a, b, c, d, e, f, …\), got x, y$"),
    ],
)
def test_a_subset_of_unknown_classes(names: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        subset(labelled(*names), ["a", "x", "y"])
    with pytest.raises(InputError, match=r"got none$"):
        subset(labelled(*names), [])


def test_classes_by_name_or_by_number() -> None:
    assert match_classes(labelled("sofa", "TVMonitor"), ["tv", "couch", "tv"]).tolist() == [1, 0]
    assert match_classes(labelled("diningtable", "x  y"), ["X_y", "dining_table"]).tolist() == [1, 0]
    assert match_classes(labelled("a", "b", "c"), ["p", "q", "r"]).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"a name of its own for each class, got a, A$"):
        match_classes(labelled("a", "b", "A"), ["a"])
    with pytest.raises(InputError, match=r"got a, A, a_, _a$"):
        match_classes(labelled("a", "A", "a_", "_a", "-a"), ["a"])
    with pytest.raises(InputError, match="3 classes, but of its 3 none is called b, c; score a subset"):
        match_classes(labelled("a", "b", "c"), ["a", "q", "r"])
    with pytest.raises(InputError, match="none is called a, b, c, d; score"):
        match_classes(labelled(*"abcd"), ["x"])
    with pytest.raises(InputError, match="none is called a, b, c, d, …; score"):
        match_classes(labelled(*"abcde"), ["x"])


def test_boxes_in_pixels_and_missing_pictures(tmp_path: Path) -> None:
    one, bare = labelled("a", "b", "c").pictures
    np.testing.assert_array_equal(one.boxes_px(600, 120), one.boxes_xyxy)
    np.testing.assert_allclose(bare.boxes_px(600, 120), [[0, 10, 100, 30]])
    (tmp_path / "p").touch()
    there = replace(labelled("a", "b", "c"), pictures=(replace(one, path=tmp_path / "p"),))
    there.check_pictures()
    with pytest.raises(InputError, match="set: expected q, which is not there; 1 of its 2 pictures are missing"):
        replace(there, pictures=(*there.pictures, bare)).check_pictures()


def test_which_files_describe_a_set(tmp_path: Path) -> None:
    path = yolo(tmp_path, "val: images\nnames: [x]\n")
    for name in ("a.YML", "b.yaml"):
        path.rename(tmp_path / name)
        path = tmp_path / name
        assert load_dataset(path, limit=1).objects == 1
    path.rename(tmp_path / "b.txt")
    with pytest.raises(InputError, match=r"expected a \.json or \.yaml file, got b\.txt"):
        load_dataset(tmp_path / "b.txt")
    with pytest.raises(InputError, match="which is no file"):
        load_dataset(tmp_path)
    for limit in (0, -1):
        with pytest.raises(InputError, match=f"limit: expected a positive number of pictures, got {limit}"):
            load_dataset(tmp_path / "b.txt", limit=limit)
