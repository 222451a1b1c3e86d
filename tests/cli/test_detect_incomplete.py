"""``edgedet detect`` loses nothing: what cannot be read is reported, the rest follows, and the exit code says so."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import pytest

from edgedet_runtime import capture
from tests.cli.colors import run, solid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two pictures, a damaged one between them, and a text."""
    place = tmp_path / "photos"
    place.mkdir()
    for name in ("a.jpg", "c.jpg"):
        cv2.imwrite(str(place / name), solid((20, 128, 255), (128, 192)))
    (place / "b.jpg").write_bytes((place / "a.jpg").read_bytes()[:-300])
    (place / "notes.txt").write_text("hello")
    return place


def test_a_damaged_picture_is_reported_and_the_rest_follows(bundle: Path, folder: Path) -> None:
    result = run("detect", bundle, folder, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [Path(image["path"]).name for image in document["images"]] == ["a.jpg", "c.jpg"]
    assert [Path(error["path"]).name for error in document["errors"]] == ["b.jpg"]
    assert "damaged JPEG" in document["errors"][0]["message"]
    assert "1 of the pictures and streams could not be read to their end" in result.stderr


def test_incomplete_may_be_accepted(bundle: Path, folder: Path) -> None:
    result = run("detect", bundle, folder, "--json", "--allow-incomplete")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["errors"]) == 1


def test_a_single_damaged_picture_is_bad_input(bundle: Path, folder: Path) -> None:
    result = run("detect", bundle, folder / "b.jpg", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "damaged JPEG" in result.stderr


def test_whole_pictures_have_no_errors(bundle: Path, folder: Path) -> None:
    result = run("detect", bundle, folder / "a.jpg", folder / "c.jpg", "--json")
    assert result.exit_code == 0
    assert "errors" not in json.loads(result.stdout)


def test_a_video_cut_in_half_is_said(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (192, 128))
    for _ in range(20):
        writer.write(solid((20, 128, 255), (128, 192)))
    writer.release()
    assert run("detect", bundle, path, "--json").exit_code == 0
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run("detect", bundle, path, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert 0 < len(document["images"]) < 20
    assert "it is cut off, its end of" in document["errors"][0]["message"]
    assert run("detect", bundle, path, "--json", "--allow-incomplete").exit_code == 0


class Camera:
    """Three frames; then it is gone, or waits."""

    def __init__(self, waits: bool) -> None:
        self.frames, self.go_on = 3, threading.Event()
        if not waits:
            self.go_on.set()

    def read(self, *_: object) -> tuple[bool, object]:
        self.frames -= 1
        if self.frames < 0:
            self.go_on.wait(60)
        return self.frames >= 0, solid((20, 128, 255), (128, 192))

    def get(self, what: int) -> float:
        return 0.0

    def release(self) -> None:
        """Close it."""


@pytest.mark.parametrize(
    ("waits", "words"),
    [(False, "got 3 and then none: is it unplugged?"), (True, "expected a frame within 0.3 s, got 3 and then none")],
)
def test_a_camera_that_goes_away_or_stalls_is_said(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, waits: bool, words: str
) -> None:
    cameras: list[Camera] = []

    def opened(source: object) -> Camera:
        cameras.append(Camera(waits))
        return cameras[-1]

    monkeypatch.setattr(capture, "open_capture", opened)
    result = run("detect", bundle, "0", "--json", "--stall", 0.3)
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [image["frame"] for image in document["images"]] == [0, 1, 2]
    assert document["errors"][0]["path"] == "camera:0"
    assert words in document["errors"][0]["message"]
    assert words in result.stderr
    assert run("detect", bundle, "0", "--json", "--stall", 0.3, "--allow-incomplete").exit_code == 0
    assert run("detect", bundle, "0", "--max-frames", 3, "--json").exit_code == 0
    for camera in cameras:
        camera.go_on.set()
