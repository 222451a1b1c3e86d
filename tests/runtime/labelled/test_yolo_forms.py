"""YOLO's data.yaml in all its forms, and label files of every kind."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled import LabelledSet, load_dataset


def _set(root: Path, text: str, *, label: str = "0 .5 .5 .2 .2\n") -> Path:
    for split in ("train", "val"):
        for name in ("a", "b"):
            file = root / f"images/{split}/{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), np.zeros((20, 40, 3), np.uint8))
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/a.txt").write_bytes(label.encode())
    (root / "list.txt").write_text("./images/val/b.png\r\n\r\nimages/train/a.png\r\n")
    path = root / "data.yaml"
    path.write_text(text)
    return path


def _names(data: LabelledSet) -> list[str]:
    return [f"{p.path.parent.name}/{p.path.name}" for p in data.pictures]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("val: images/val", ["val/a.png", "val/b.png"]),
        ("val: [images/val, images/train]", ["val/a.png", "val/b.png", "train/a.png", "train/b.png"]),
        ("val: images", ["train/a.png", "train/b.png", "val/a.png", "val/b.png"]),
        ("val: list.txt", ["val/b.png", "train/a.png"]),
        ("val: [list.txt, images/val/a.png]", ["val/b.png", "train/a.png", "val/a.png"]),
        ("path: .\nval: images/val/", ["val/a.png", "val/b.png"]),
        ("path: images\nval: val", ["val/a.png", "val/b.png"]),
        ("path: ../elsewhere\nval: images/val", ["val/a.png", "val/b.png"]),
        ("path:\nval: ../images/val", ["val/a.png", "val/b.png"]),
        ("path: ~\nval: ./images/val\ntrain: 3", ["val/a.png", "val/b.png"]),
        ("train: &a [images/val]\nval: *a", ["val/a.png", "val/b.png"]),
    ],
)
def test_where_pictures_lie(tmp_path: Path, entry: str, expected: list[str]) -> None:
    data = load_dataset(_set(tmp_path, f"{entry}\nnames: [x]\n"))
    assert _names(data) == expected
    assert data.objects == sum(name.endswith("a.png") for name in expected)


def test_absolute_paths_and_a_relative_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _set(tmp_path, f"path: {tmp_path}/images\nval: {tmp_path}/images/val\nnames: [x]\n")
    assert _names(load_dataset(path)) == ["val/a.png", "val/b.png"]
    inside = tmp_path / "images/data.yaml"
    inside.write_text("val: val\nnames: [x]\n")
    monkeypatch.chdir(tmp_path / "images")
    assert load_dataset("data.yaml").objects == 1  # labels/val/a.txt, though the relative path has no `images`


def test_the_last_folder_called_images_becomes_labels(tmp_path: Path) -> None:
    root = tmp_path / "images" / "set"
    assert load_dataset(_set(root, "val: images/val\nnames: [x]\n")).objects == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: {0: zero, 1: one, 2: two, 10: ten, 9: '9', 8: h, 7: g, 6: f, 5: e, 4: d, 3: c}", "ten"),
        ("names: [z, b, c, d, e, f, g, h, i, j, no]", "no"),
        ("names: [z, b, c, d, e, f, g, h, i, j, 1e9]\nnc: 11", "1e9"),
        ("nc: 11", "class10"),
    ],
)
def test_names_keep_their_order_and_spelling(tmp_path: Path, names: str, expected: str) -> None:
    data = load_dataset(_set(tmp_path, f"val: images/val\n{names}\n", label="10 .5 .5 .2 .2"))
    assert len(data.classes) == 11
    assert data.classes[int(data.pictures[0].class_ids[0])] == expected


@pytest.mark.parametrize(
    ("label", "extra", "boxes"),
    [
        ("0 .5 .5 .2 .4", "", [[0.4, 0.3, 0.6, 0.7]]),
        ("0.0 .5 .5 1.0 1.005\r\n\r\n", "", [[0, -0.0025, 1, 1.0025]]),
        ("0 .1 .2 .9 .2 .5 .8", "", [[0.1, 0.2, 0.9, 0.8]]),
        ("0 .1 .2 .9 .2 .9 .6 .1 .6\n0 .5 .5 .2 .4", "", [[0.1, 0.2, 0.9, 0.6], [0.4, 0.3, 0.6, 0.7]]),
        ("0 .5 .5 .2 .4 .1 .1 2 .9 .9 0", "kpt_shape: [2, 3]", [[0.4, 0.3, 0.6, 0.7]]),
        ("0 .5 .5 .2 .4 .1 .1 .2 .2", "kpt_shape: [2, 2]", [[0.4, 0.3, 0.6, 0.7]]),
        ("0 .5 .5 .2 .4\n0 .5 .5 .2 .4\n", "", [[0.4, 0.3, 0.6, 0.7]]),
        ("", "", []),
        ("\n \n", "", []),
    ],
)
def test_label_files(tmp_path: Path, label: str, extra: str, boxes: list[list[float]]) -> None:
    data = load_dataset(_set(tmp_path, f"val: images/val\nnames: [x]\n{extra}\n", label=label))
    first, second = data.pictures
    np.testing.assert_allclose(first.boxes_xyxy, np.reshape(boxes, (-1, 4)), atol=1e-12)
    assert len(second.class_ids) == 0
    assert len(data.notes) == (label.count("0 .5 .5 .2 .4\n") == 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 320 240 50 60", "expected coordinates in 0..1 of the picture, got '0 320 240 50 60'; are they pixels?"),
        ("0 1.5 1.5 .1 .1", "expected coordinates in 0..1 of the picture, got"),
        ("0 -.1 .5 .1 .1", "expected coordinates in 0..1 of the picture, got"),
        ("0 .1 .2 .9 .2 1.2 .8", "expected coordinates in 0..1 of the picture, got"),
        ("0 .5 .5 -.1 -.1", "expected a width and height above 0, got"),
        ("0 .5 .5 0 .1", "expected a width and height above 0, got"),
        ("0 .1 .1 .5 .1 .9 .1", "expected a polygon with a width and height above 0, got"),
        ("0.5 .5 .5 .1 .1", "with a whole number as class, got"),
        ("0 nan .5 .1 .1", "as finite numbers, got"),
        ("0 inf .5 .1 .1", "as finite numbers, got"),
        ("0 1e400 .5 .1 .1", "as finite numbers, got"),
        ("\ufeff0 .5 .5 .1 .1", "save it without a byte order mark"),
        ("0,.5,.5,.1,.1", "put spaces instead of commas"),
        ("1 .5 .5 .1 .1", "expected a class 0..0, got 1"),
        ("-1 .5 .5 .1 .1", "expected a class 0..0, got -1"),
        ("0 .5 .5 .1", "expected class, x, y, width, height, or class and three or more points, got"),
        ("0 .5 .5 .1 .1 .9", "expected class, x, y, width, height, or class and three or more points, got"),
        ("0 .1 .2 .3 .4 .5 .6 .7", "expected class, x, y, width, height, or class and three or more points, got"),
        ("x" * 100_000, "expected class, x, y, width, height with spaces between, got"),
        ("0 .5 .5 .1 \udcff", "labels: expected a text file"),
    ],
)
def test_each_fault_is_one_sentence_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = _set(tmp_path, "val: images/val\nnames: [x]\n")
    (tmp_path / "labels/val/b.txt").write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    text = str(caught.value)
    assert message in text
    assert text.startswith(f"{tmp_path}/labels/val/b.txt:{'1: ' if 'labels:' not in message else ' labels'}")
    assert text.isascii()
    assert len(text) < 400


def test_no_fault_hides_behind_another(tmp_path: Path) -> None:
    path = _set(tmp_path, "val: images/val\nnames: [x]\n", label="0 .5 .5 .1 .1\n0 .5 .5 .1\n3 .5 .5 .1 .1\n")
    (tmp_path / "labels/val/b.txt").write_text("0 9 9 9 9\n")
    with pytest.raises(InputError, match=r"a\.txt:2: .*\(3 faults in 2 files: 1 such; 1 .*line 3; 1 .*b\.txt:1\)$"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 1000000000\nval: images/val", "nc: expected 1..100000 classes, got '1000000000'"),
        ("nc: [1]\nval: images/val", "nc: expected a number of classes"),
        ("nc: 2\nnames: [x]\nval: images/val", "nc 2 and 1 names"),
        ("names: [[x], y]\nval: images/val", "names: expected texts"),
        ("names: {a: x}\nval: images/val", "expected numbers as keys"),
        ("names: x\nval: images/val", "names: expected a list"),
        ("names: [x]\nval: {a: b}", "expected folders or .txt lists"),
        ("names: [x]\nval: [[a]]", "expected folders or .txt lists"),
        ("names: [x]\nval: images/val\npath: [a]", "path: expected a folder"),
        ("names: [x]\nval: gone.txt", "which is none"),
        ("names: [x]\nval: data.yaml", "got 'names: [x]', which is not there"),
        ("names: [x]\nval: images/val\nval: images/train", "the key 'val' for the second time"),
        ("names: !!python/name:os.system x\nval: images/val", "got no YAML"),
        ("[" * 10_000, "nested more than 20 deep"),
        ("val: \x00", "got no YAML"),
        ("names: &a [*a]\nval: images/val", "names: expected texts"),
        ("kpt_shape: 3\nnames: [x]\nval: images/val", "kpt_shape: expected two numbers"),
        ("# " + "x" * 5_000_000, "larger than 4 MB"),
    ],
)
def test_faults_of_the_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(_set(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nested_aliases_cost_nothing(tmp_path: Path) -> None:
    levels = [f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 10)}]" for i in range(1, 15)]
    text = "\n".join(["k0: &k0 [x]", *levels, "names: *k14", "val: images/val"])
    started = time.process_time()
    with pytest.raises(InputError, match="names: expected texts"):
        load_dataset(_set(tmp_path, text))
    assert time.process_time() - started < 5


def test_calibration_needs_no_labels_and_still_checks_those_there_are(tmp_path: Path) -> None:
    path = _set(tmp_path, "train: images/train\n", label="7 .5 .5 .1 .1")
    assert len(load_dataset(path, split=("train", "val"), need_labels=False).pictures) == 2
    (tmp_path / "labels/train/a.txt").write_text("-1 .5 .5 .1 .1")
    with pytest.raises(InputError, match="expected a class of 0 or more, got -1"):
        load_dataset(path, split=("train", "val"), need_labels=False)
