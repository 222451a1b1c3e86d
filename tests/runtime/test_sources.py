"""Pictures from files, folders, globs and videos; one line for whatever cannot be read."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.pictures import read_image
from edgedet_runtime.sources import Source, find_source, iter_frames
from tests.runtime.tiny_models import random_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("b.png", "a.PNG", "c.bmp")):
        assert cv2.imwrite(str(tmp_path / name), random_image(20 + i, 30))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "sub").mkdir()
    assert cv2.imwrite(str(tmp_path / "sub" / "d.png"), random_image(40, 30))
    return tmp_path


def test_one_image(folder: Path) -> None:
    (frame,) = iter_frames(folder / "b.png")
    assert (frame.path, frame.index) == (str(folder / "b.png"), 0)
    np.testing.assert_array_equal(frame.image_bgr, random_image(20, 30))


def test_a_folder_by_name(folder: Path) -> None:
    frames = list(iter_frames(str(folder)))
    assert [Path(f.path).name for f in frames] == ["a.PNG", "b.png", "c.bmp"]
    assert [f.index for f in frames] == [0, 1, 2]


def test_globs(folder: Path) -> None:
    assert [Path(f.path).name for f in iter_frames(f"{folder}/*.p*")] == ["b.png"]
    assert [Path(f.path).name for f in iter_frames(f"{folder}/**/*.png")] == ["b.png", "d.png"]


def test_a_name_with_brackets_is_a_file_first(tmp_path: Path) -> None:
    path = tmp_path / "x[1].png"
    assert cv2.imwrite(str(path), random_image(20, 30))
    assert len(list(iter_frames(path))) == 1


def test_a_file_named_as_a_number_is_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cv2.imwrite(str(tmp_path / "x.png"), random_image(20, 30))
    (tmp_path / "x.png").rename(tmp_path / "7")
    monkeypatch.chdir(tmp_path)
    (frame,) = iter_frames("7")
    assert frame.image_bgr.shape == (20, 30, 3)


def test_pictures_are_read_one_at_a_time(folder: Path) -> None:
    frames = iter_frames(folder)
    next(frames)
    (folder / "b.png").write_bytes(b"damaged in the meantime")
    with pytest.raises(InputError, match=r"b\.png"):
        next(frames)


def test_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write videos")
    for level in (0, 100, 200):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    frames = list(iter_frames(path))
    assert [f.index for f in frames] == [0, 1, 2]
    assert [round(float(f.image_bgr.mean()) / 100) for f in frames] == [0, 1, 2]
    assert {f.path for f in frames} == {str(path)}


def test_grey_files_come_as_bgr(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "grey.png"), random_image(20, 30)[:, :, 0])
    assert read_image(tmp_path / "grey.png").shape == (20, 30, 3)


def bad_sources(folder: Path) -> dict[str, tuple[str, str]]:
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:20])
    (folder / "text.mp4").write_text("no video")
    (folder / "nothing").mkdir()
    return {
        "absent": (f"{folder}/absent.jpg", "does not exist"),
        "empty": (f"{folder}/empty.jpg", "it is empty"),
        "text": (f"{folder}/text.jpg", "expected an image"),
        "truncated": (f"{folder}/cut.png", "expected an image"),
        "video": (f"{folder}/text.mp4", "gave no frame"),
        "empty folder": (f"{folder}/nothing", "there are none"),
        "glob": (f"{folder}/*.webp", "matches no image"),
        "camera": ("97", "camera:97"),
    }


@pytest.mark.parametrize("case", ["absent", "empty", "text", "truncated", "video", "empty folder", "glob", "camera"])
def test_what_cannot_be_read_is_named_in_one_line(folder: Path, case: str) -> None:
    source, message = bad_sources(folder)[case]
    with pytest.raises(InputError, match=message) as error:
        list(iter_frames(source))
    assert "\n" not in str(error.value)
    assert source in str(error.value)


@pytest.mark.parametrize(
    ("source", "camera"), [(0, 0), (12, 12), ("0", 0), ("7", 7), ("12345", 12345), ("007", 7), (123456, 123456)]
)
def test_numbers_are_cameras(source: str | int, camera: int) -> None:
    assert find_source(source) == Source(camera, (), many=False)


@pytest.mark.parametrize("source", ["123456", "٣", "-1", "1.5", "a\0b", "x" * 5000])
def test_what_is_neither_a_number_nor_there(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_source(source)


def test_what_a_source_is(folder: Path) -> None:
    names = ("a.PNG", "b.png", "c.bmp")
    assert find_source(folder) == Source(None, tuple(folder / n for n in names), many=True)
    assert find_source(folder / "b.png") == Source(None, (folder / "b.png",), many=False)
    (folder / "v.mp4").write_bytes(b"video")
    (folder / "w.MP4").write_bytes(b"video")
    (folder / "picture-without-suffix").write_bytes((folder / "b.png").read_bytes())
    (folder / "x.png").mkdir()
    found = find_source(f"{folder}/*")
    assert found.many
    assert [p.name for p in found.files] == ["a.PNG", "b.png", "c.bmp", "picture-without-suffix", "v.mp4", "w.MP4"]


def test_a_picture_that_is_called_like_a_video(folder: Path) -> None:
    (folder / "b.png").rename(folder / "b.avi")
    (frame,) = iter_frames(folder / "b.avi")
    assert (frame.stream, frame.index, frame.image_bgr.shape) == (False, 0, (20, 30, 3))


def test_frames_of_streams_and_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, str]] = []

    def frames(source: object, name: str, **_: float) -> list[np.ndarray[Any, Any]]:
        asked.append((source, name))
        return [np.full((2, 2, 3), level, np.uint8) for level in (5, 6)]

    monkeypatch.setattr("edgedet_runtime.sources.capture_frames", frames)
    (folder / "v.mov").write_bytes(b"video")
    both = list(iter_frames(f"{folder}/[bv]*"))
    assert [(Path(f.path).name, f.index, f.stream) for f in both] == [
        ("b.png", 0, False),
        ("v.mov", 0, True),
        ("v.mov", 1, True),
    ]
    camera = list(iter_frames(3))
    assert [(f.path, f.index, f.stream, int(f.image_bgr[0, 0, 0])) for f in camera] == [
        ("camera:3", 0, True, 5),
        ("camera:3", 1, True, 6),
    ]
    list(iter_frames(Path("/dev/null")))
    assert asked == [(folder / "v.mov", str(folder / "v.mov")), (3, "camera:3"), (Path("/dev/null"), "/dev/null")]


def test_what_fails_is_told_and_the_rest_follows(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"damaged")
    failed: list[tuple[str, str]] = []
    frames = list(iter_frames(folder, failed=lambda path, e: failed.append((path, str(e)))))
    assert [(Path(f.path).name, f.index) for f in frames] == [("a.PNG", 0), ("c.bmp", 2)]
    assert [path for path, _ in failed] == [str(folder / "b.png")]
    assert "expected an image" in failed[0][1]


def test_folders_without_pictures_and_with_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"\(JPEG, PNG, BMP, GIF, WebP, TIFF, PNM\), there are none$"):
        find_source(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("hello")
    with pytest.raises(InputError, match=r"there are none among its 2 files$"):
        find_source(tmp_path)
    assert cv2.imwrite(str(tmp_path / "c.png"), random_image(20, 30))
    find_source(tmp_path)
    assert "2 of its files are no images and are passed over (such as 'a.txt')" in caplog.text
    caplog.clear()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).unlink()
    find_source(tmp_path)
    assert not caplog.text


def test_a_socket_is_no_source(in_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("camera")
        with pytest.raises(InputError, match=r"^camera: expected .* got a socket$"):
            find_source("camera")
