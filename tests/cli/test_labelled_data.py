"""Training, calibration, evaluation and comparison say the same sentence for the same fault of labelled data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet_export.quantize.images import open_pictures
from edgedet_runtime.errors import InputError
from tests.cli.colors import run

_BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}


def _yolo(root: Path, label: bytes, text: str = "train: images\nval: images\nnames: [red, green]\n") -> Path:
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    cv2.imwrite(str(root / "images/a.png"), np.zeros((48, 64, 3), np.uint8))
    (root / "labels/a.txt").write_bytes(label)
    (root / "data.yaml").write_text(text)
    return root / "data.yaml"


def _coco(root: Path, annotation: object) -> Path:
    cv2.imwrite(str(root / "a.png"), np.zeros((48, 64, 3), np.uint8))
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "red"}],
        "annotations": [annotation],
    }
    (root / "coco.json").write_text(json.dumps(data))
    return root / "coco.json"


def _sentences(data: Path, model: Path, tmp_path: Path) -> set[str]:
    """Return what the four commands say."""
    commands = (
        ("train", tmp_path / "run", data, "--processes", 1),
        ("export", "edgecode-n", "--int8", "--calib", data, "--out", tmp_path / "out"),
        ("eval", model, "--data", data),
        ("compare", model, model, "--data", data),
    )
    said = set()
    for command in commands:
        result = run(*command)
        assert result.exit_code == 2, (command, result.output)
        assert result.stderr.count("\n") == 1
        said.add(result.stderr)
    return said


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (b"0 320 240 50 60", "a.txt:1: expected coordinates in 0..1"),
        (b"0 .5 .5 .1 .1\n0 1.5 1.5 .1 .1", "a.txt:2: expected coordinates in 0..1"),
        (b"0 .5 .5 -.1 -.1", "a.txt:1: expected a width and height above 0"),
        (b"0.5 .5 .5 .1 .1", "a.txt:1: expected class, x, y, width, height with a whole number"),
        (b"0 nan .5 .1 .1", "a.txt:1: expected class, x, y, width, height as finite numbers"),
        (b"\xef\xbb\xbf0 .5 .5 .1 .1", "byte order mark"),
        (b"0,.5,.5,.1,.1", "spaces instead of commas"),
        (b"2 .5 .5 .1 .1", "a.txt:1: expected a class 0..1, got 2"),
        (b"-1 .5 .5 .1 .1\n9 0 0 1 1", "a.txt:1: expected a class 0..1, got -1 (2 such faults in 1 file)"),
        (
            b"-1 .5 .5 .1 .1\n0 0 0 0 0\n0 9 .5 .1 .1\n5 .5 .5 .1 .1\n0 .5 .5 0 0",
            "a.txt:1: expected a class 0..1, got -1 (5 faults in 1 file: 2 such;"
            " 2 expected a width and height above 0, first at line 2;"
            " 1 expected coordinates in 0..1 of the picture, first at line 3)",
        ),
        (b"\xff\xfe", "expected a text file"),
    ],
)
def test_faults_of_yolo_labels(tmp_path: Path, color_model: Path, label: bytes, words: str) -> None:
    (said,) = _sentences(_yolo(tmp_path, label), color_model, tmp_path)
    assert words in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images\nval: images\nnc: 1000000000\n", "nc: expected 1..100000 classes"),
        ("train: [images, 3]\nval: [images, 3]\nnames: [a]\n", "expected a folder, a picture or a .txt list"),
        ("train: [\n", "got no YAML"),
    ],
)
def test_faults_of_the_yaml(tmp_path: Path, color_model: Path, text: str, words: str) -> None:
    said = _sentences(_yolo(tmp_path, b"0 .5 .5 .1 .1", text), color_model, tmp_path)
    assert len({sentence.replace(" train:", " val:") for sentence in said}) == 1
    assert all(words in sentence for sentence in said)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({**_BOX, "image_id": 9}, "annotations[0]: expected a known image"),
        ({**_BOX, "bbox": [1, 2, -3, 4]}, "annotations[0]: expected a bbox with finite sides"),
        ({**_BOX, "bbox": [1, 2, float("nan"), 4]}, "annotations[0]: expected a bbox of four numbers"),
        ([], "annotations[0]: expected the field 'image_id'"),
    ],
)
def test_faults_of_coco(tmp_path: Path, color_model: Path, annotation: object, words: str) -> None:
    (said,) = _sentences(_coco(tmp_path, annotation), color_model, tmp_path)
    assert words in said


@pytest.mark.interop
def test_hostile_labels(shared: Path, tmp_path: Path, color_model: Path) -> None:
    files = sorted((shared / "hostile/data/labels").glob("*/*.txt"))
    assert files
    for number, file in enumerate(files):
        root = tmp_path / str(number)
        root.mkdir()
        (said,) = _sentences(_yolo(root, file.read_bytes()), color_model, root)
        assert "a.txt:1: expected" in said


@pytest.mark.interop
def test_hostile_files(shared: Path, tmp_path: Path, color_model: Path) -> None:
    files = [*sorted((shared / "hostile/data").glob("*.json")), *sorted((shared / "hostile/bombs").glob("*.yaml"))]
    assert len(files) >= 4
    for number, file in enumerate(files):
        copy = tmp_path / f"{number}{file.suffix}"
        copy.write_bytes(file.read_bytes())
        for sentence in _sentences(copy, color_model, tmp_path):
            assert len(sentence) < 600


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-9], "it is a damaged PNG: "),
        (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], "it is a damaged PNG: "),
        (lambda data: b"", "it is empty"),
        (lambda data: b"hello " * 20, "it is something else"),
    ],
    ids=["cut", "a bit", "empty", "text"],
)
def test_damaged_pictures(
    tmp_path: Path,
    color_model: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    words: str,
) -> None:
    """Calibration leaves such pictures out, and says why in the same words; it ends where nothing is left."""
    data = _yolo(tmp_path, b"0 .5 .5 .1 .1\n")
    picture = tmp_path / "images/a.png"
    picture.write_bytes(damage(picture.read_bytes()))
    sentence = f"{picture}: expected an image"
    for command in (
        ("detect", color_model, picture),
        ("train", tmp_path / "run", data, "--processes", 1, "--sizes", "64:1", "--batch", 1),
        ("eval", color_model, "--data", data, "--classes", "red"),
        ("compare", color_model, "--data", data, "--classes", "red"),
    ):
        result = run(*command)
        assert result.exit_code == 2, (command, result.output)
        (line,) = [line for line in result.stderr.splitlines() if sentence in line]
        assert line.startswith(f"error: {sentence}")
        assert words in line
        told = line.removeprefix("error: ")
    with pytest.raises(InputError, match="none can be read"):
        open_pictures([picture], limit=4)
    assert [record.getMessage() for record in caplog.records if sentence in record.getMessage()] == [
        f"{told}; it is left out"
    ]
