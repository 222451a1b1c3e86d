"""Calibration pictures: listing, duplicates, unreadable files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet_export.quantize.images import open_pictures, picture_paths
from edgedet_runtime.errors import InputError

from .tiny_detector import pictures, tiny_detector


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for i, picture in enumerate(pictures(3)):
        cv2.imwrite(str(images / f"{i}.png"), picture)
    cv2.imwrite(str(images / "copy.png"), pictures(3)[1])
    (images / "broken.jpg").write_bytes(b"no picture")
    (images / "notes.txt").write_text("x")
    return tmp_path


def test_folder_in_order_of_names(folder: Path) -> None:
    assert [p.name for p in picture_paths(folder)] == ["0.png", "1.png", "2.png", "broken.jpg", "copy.png"]


def test_coco_json_and_data_yaml(folder: Path) -> None:
    coco = folder / "instances_calib.json"
    coco.write_text(json.dumps({"images": [{"file_name": "2.png"}, {"file_name": "0.png"}]}))
    assert [p.name for p in picture_paths(coco)] == ["2.png", "0.png"]
    data = folder / "data.yaml"
    data.write_text("path: .\ntrain: images\nnames: [a]\n")
    assert len(picture_paths(data)) == 5


@pytest.mark.parametrize("name", ["missing", "notes.txt", "empty"])
def test_nothing_usable_is_one_clear_line(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"^calib: expected"):
        picture_paths(folder / name)


def test_duplicates_and_unreadable_are_reported(folder: Path) -> None:
    found = open_pictures(picture_paths(folder), limit=10)
    assert len(found) == 3
    assert [Path(p).name for p in found.duplicates] == ["copy.png"]
    assert [Path(p).name for p in found.unreadable] == ["broken.jpg"]
    _, spec = tiny_detector()
    tensors = list(found.tensors(spec))
    assert [t.shape for t in tensors] == [(1, 64, 64, 3)] * 3
    assert not np.array_equal(tensors[0], tensors[1])


def test_limit_spreads_over_the_list() -> None:
    found = open_pictures(pictures(10), limit=5)
    np.testing.assert_array_equal(np.asarray(found.images[1]), pictures(10)[2])
    assert len(found) == 5


def test_no_picture_can_be_read(folder: Path) -> None:
    with pytest.raises(InputError, match="none can be read"):
        open_pictures([folder / "images/broken.jpg"], limit=4)
