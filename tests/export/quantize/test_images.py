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


@pytest.mark.parametrize(
    ("count", "limit", "taken"),
    [(10, 4, [0, 3, 6, 9]), (10, 10, list(range(10))), (10, 20, list(range(10))), (9, 8, [0, 2, 4, 6, 8]), (1, 1, [0])],
)
def test_every_nth_of_a_longer_list(count: int, limit: int, taken: list[int]) -> None:
    given = pictures(count)
    found = open_pictures(given, limit=limit)
    assert len(found) == len(taken)
    assert all(image is given[i] for image, i in zip(found.images, taken, strict=True))


def test_no_pictures_at_all() -> None:
    with pytest.raises(InputError, match="got 0 of which none can be read"):
        open_pictures([], limit=4)


@pytest.mark.parametrize(
    ("count", "taken"), [(4, [0, 2, 5, 7]), (9, [0, 1, 2, 3, 4, 5, 6, 7, 8]), (10, None), (11, None)]
)
def test_pictures_spread_over_the_set(count: int, taken: list[int] | None) -> None:
    found = open_pictures([*pictures(10), pictures(1)[0]], limit=20)
    some = found.spread(count)
    assert [id(p) for p in some.images] == [id(found.images[i]) for i in taken or range(10)]
    assert (some.duplicates, some.sha256) == (("picture 10",), found.sha256)
    _, spec = tiny_detector()
    assert len(list(found.tensors(spec, limit=3))) == 3
    assert len(list(found.tensors(spec))) == 10


def test_the_hash_is_of_pixels_and_order(folder: Path) -> None:
    a, b = pictures(2)
    sums = [open_pictures(p, limit=9).sha256 for p in ([a, b], [b, a], [a], [a, a], [folder / "images/0.png"])]
    assert len(set(sums)) == 3
    assert sums[2] == sums[3], "a duplicate does not count"
    assert sums[4] == sums[2], "the same pixels in a file"
    turned = open_pictures([a, a.reshape(a.shape[1], a.shape[0], 3)], limit=9)
    assert len(turned) == (2 if a.shape[0] != a.shape[1] else 1)


def test_tensors_are_arrays_of_their_own() -> None:
    _, spec = tiny_detector()
    first, second = open_pictures(pictures(2), limit=2).tensors(spec)
    assert not np.shares_memory(first, second)


def test_a_picture_file_is_a_list_of_one(folder: Path) -> None:
    assert picture_paths(folder / "images/0.png") == [folder / "images/0.png"]


def test_a_validation_set_serves_where_there_is_no_training_set(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = folder / "data.yaml"
    data.write_text("path: .\nval: images\nnames: [a]\n")
    assert len(picture_paths(data)) == 5
    open_pictures([folder / "images/broken.jpg", *pictures(1)], limit=9)
    assert "broken.jpg" in caplog.text
    assert "it is left out" in caplog.text
