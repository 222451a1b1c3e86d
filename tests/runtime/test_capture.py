"""Cameras that stall, go away or cannot be opened, videos that are cut off: said; and frames take no new memory."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime import capture as module
from edgedet_runtime.capture import capture_frames
from edgedet_runtime.errors import InputError
from edgedet_runtime.sources import iter_frames
from edgedet_runtime.video_length import missing_bytes

ROOT = Path(__file__).resolve().parents[2]


class Camera:
    """Gives frames of a number each, and then does what is asked: ends, waits until it is let go, or fails."""

    def __init__(self, frames: int, then: str, size: tuple[int, int] = (4, 6)) -> None:
        self.left, self.then, self.size = frames, then, size
        self.given = self.made = 0
        self.claims: dict[int, float] = {}
        self.let_go = threading.Event()
        self.released = threading.Event()

    def read(self, image: npt.NDArray[np.uint8] | None = None, /) -> tuple[bool, Any]:
        if not self.left:
            if self.then == "waits":
                self.let_go.wait(60)
            if self.then == "fails":
                raise MemoryError("no memory for a frame")
            if self.then == "cannot convert":
                raise cv2.error("no conversion")
            return False, None
        self.left -= 1
        self.given += 1
        if image is None or image.shape != (*self.size, 3):
            image = np.empty((*self.size, 3), np.uint8)
            self.made += 1
        image[:] = self.given % 256
        return True, image

    def get(self, what: int, /) -> float:
        return self.claims.get(what, 0.0)

    def release(self) -> None:
        self.released.set()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Camera]:
    """Return a list: the camera in it is what is opened next."""
    cameras: list[Camera] = []
    monkeypatch.setattr(module, "open_capture", lambda source: cameras[-1])
    return cameras


def values(frames: Iterator[npt.NDArray[np.uint8]]) -> Iterator[int]:
    return (int(frame[0, 0, 0]) for frame in frames)


T = TypeVar("T")


def until_error(frames: Iterator[T], said: list[str]) -> Iterator[T]:
    """Yield what comes before the error, and note what it says."""
    try:
        yield from frames
    except InputError as e:
        said.append(str(e))


def seen_until_error(frames: Iterator[npt.NDArray[np.uint8]]) -> tuple[list[int], str]:
    said: list[str] = []
    seen = list(values(until_error(frames, said)))
    assert len(said) == 1
    return seen, said[0]


def test_a_camera_that_is_unplugged_is_said_after_its_frames(opened: list[Camera]) -> None:
    opened.append(Camera(3, "ends"))
    seen, said = seen_until_error(capture_frames(0, "camera:0"))
    assert seen == [1, 2, 3]
    assert said == "camera:0: expected frames for as long as it is read, got 3 and then none: is it unplugged?"
    assert opened[0].released.is_set()
    assert threading.active_count() == 1


@pytest.mark.parametrize("frames", [0, 2])
def test_a_stream_that_stalls_is_said_in_time(opened: list[Camera], frames: int) -> None:
    camera = Camera(frames, "waits")
    opened.append(camera)
    seen, said = seen_until_error(capture_frames(0, "camera:0", stall_s=0.2))
    assert seen == list(range(1, frames + 1))
    assert said == f"camera:0: expected a frame within 0.2 s, got {frames} and then none"
    camera.let_go.set()
    assert camera.released.wait(10), "a camera that comes back is closed"


def test_a_camera_that_gives_nothing_is_said(opened: list[Camera]) -> None:
    opened.append(Camera(0, "ends"))
    assert seen_until_error(capture_frames(0, "camera:0"))[1].endswith("that OpenCV can read, it gave no frame")


@pytest.mark.parametrize(("claimed", "frames", "enough"), [(1000, 979, True), (1000, 978, False), (1e9, 1, True)])
def test_a_video_may_lack_one_frame_in_fifty_and_one_more(
    opened: list[Camera], tmp_path: Path, claimed: float, frames: int, enough: bool
) -> None:
    opened.append(Camera(frames, "ends"))
    opened[0].claims = {cv2.CAP_PROP_FRAME_COUNT: claimed, cv2.CAP_PROP_FPS: 25.0}
    (path := tmp_path / "video").write_bytes(b"of no container that is known")
    said: list[str] = []
    assert sum(1 for _ in until_error(module.capture_frames(path, "v"), said)) == frames
    assert said == (
        [] if enough else [f"v: expected 1000 frames, as the file says, got {frames}: it is cut off or damaged"]
    )


def test_frames_at_uneven_times_are_counted_in_time(opened: list[Camera], tmp_path: Path) -> None:
    """The number of frames is then an estimate: the last one's time tells whether the end was reached."""
    (path := tmp_path / "video").write_bytes(b"of no container that is known")
    for last_ms, enough in ((3.84e3, True), (3.83e3, False)):
        opened.append(Camera(3, "ends"))
        opened[-1].claims = {
            cv2.CAP_PROP_FRAME_COUNT: 100.0,
            cv2.CAP_PROP_FPS: 25.0,
            cv2.CAP_PROP_POS_MSEC: last_ms,
        }
        said: list[str] = []
        assert sum(1 for _ in until_error(module.capture_frames(path, "v"), said)) == 3
        assert said == ([] if enough else ["v: expected 100 frames, as the file says, got 3: it is cut off or damaged"])


def test_a_frame_that_cannot_be_converted_ends_the_stream(opened: list[Camera]) -> None:
    opened.append(Camera(2, "cannot convert"))
    seen, said = seen_until_error(capture_frames(0, "camera:0"))
    assert (seen, "got 2 and then none" in said) == ([1, 2], True)


def test_an_error_of_the_reading_thread_is_raised_at_once(opened: list[Camera]) -> None:
    opened.append(Camera(2, "fails"))
    frames = values(capture_frames(0, "camera:0", stall_s=60))
    assert [next(frames), next(frames)] == [1, 2]
    with pytest.raises(MemoryError, match="no memory for a frame"):
        next(frames)
    assert opened[0].released.is_set()


def test_a_stream_that_is_left_closes_its_camera(opened: list[Camera]) -> None:
    opened.append(Camera(10**6, "ends"))
    frames = capture_frames(0, "camera:0")
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert opened[0].released.is_set()
    assert opened[0].given == 1, "no frame is read ahead that nobody asked for"
    assert threading.active_count() == 1


def test_frames_that_are_dropped_lend_their_memory(opened: list[Camera]) -> None:
    opened.append(Camera(50, "ends"))
    for number, frame in enumerate(until_error(iter_frames(0), []), 1):
        assert (frame.image_bgr == number).all()
    assert number == 50
    assert opened[0].made == 2, "one that the loop holds, one to read into"


def test_frames_that_are_kept_stay_what_they_were(opened: list[Camera]) -> None:
    """Whole, as a view of a part, or not at all, in turn."""
    opened.append(Camera(60, "ends"))
    kept: list[tuple[int, npt.NDArray[np.uint8]]] = []
    for number, frame in enumerate(until_error(capture_frames(0, "camera:0"), []), 1):
        if number % 3 == 1:
            kept.append((number, frame))
        if number % 3 == 2:
            kept.append((number, frame[1:, ::2]))
    assert len(kept) == 40
    assert all((frame == number).all() for number, frame in kept)


def test_a_stream_may_change_its_size(opened: list[Camera]) -> None:
    camera = Camera(9, "ends")
    opened.append(camera)
    sizes = []
    for frame in until_error(capture_frames(0, "camera:0"), []):
        assert (frame == camera.given).all()
        sizes.append(frame.shape[0])
        camera.size = (4, 6) if camera.given < 5 else (8, 6)
    assert sizes == [4] * 5 + [8] * 4


def test_a_pipe_into_which_nobody_writes_stalls(tmp_path: Path) -> None:
    """OpenCV itself waits here, for as long as the pipe has no writer."""
    pipe = tmp_path / "camera.mjpeg"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"expected a frame within 0\.3 s, got 0 and then none"):
        next(iter_frames(pipe, stall_s=0.3))
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def video(path: Path, codec: str, frames: int = 60) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {codec} into {path.suffix}")
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mp4", "mp4v"), ("v.mkv", "mp4v")])
def test_a_cut_video_is_said_wherever_it_is_cut(tmp_path: Path, name: str, codec: str) -> None:
    path = video(tmp_path / name, codec)
    assert missing_bytes(path) == 0
    assert len(list(capture_frames(path, name))) == 60
    whole = path.read_bytes()
    for lacking in (1, len(whole) // 100, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:-lacking])
        seen, said = seen_until_error(capture_frames(path, name))
        said_cut = re.search(r"is cut off, its end of \d+ bytes is missing$|, got \d+: it is cut off or damaged$", said)
        assert said_cut if seen else "it gave no frame" in said
    assert len(seen) < 60


def test_bytes_behind_a_video_are_no_fault(tmp_path: Path) -> None:
    for name, codec in (("v.avi", "MJPG"), ("v.mp4", "mp4v")):
        path = video(tmp_path / name, codec, 5)
        path.write_bytes(path.read_bytes() + b"\0" * 20)
        assert missing_bytes(path) == 0


@pytest.mark.parametrize(
    ("data", "lacking"),
    [
        (b"", 0),
        (b"RIFF\x20\0\0\0AVI ", 28),
        (b"RIFF\0\0\0\0AVI ", 0),
        (b"RIFF\xff\xff\xff\xffAVI ", 0),
        (b"RIFF\x04\0\0\0AVI RIFF\x10\0\0\0AVIX", 12),
        (b"RIFF\x04\0\0\0WAVE", 0),
        (b"\0\0\0\x08ftyp\0\0\0\x10mdat", 8),
        (b"\0\0\0\x08ftyp\0\0\0\0mdat", 0),
        (b"\0\0\0\x08ftyp\0\0\0\x01mdat\0\0\0\0\0\0\0\x20", 16),
        (b"\x1a\x45\xdf\xa3\x81\0\x18\x53\x80\x67\x84\0", 3),
        (b"\x1a\x45\xdf\xa3\x81\0\x18\x53\x80\x67\x40\x06\0", 5),
        (b"\x1a\x45\xdf\xa3\x81\0\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff\0", 0),
        (b"\x1a\x45\xdf\xa3", 0),
        (b"something else of length", 0),
    ],
)
def test_sizes_of_containers(tmp_path: Path, data: bytes, lacking: int) -> None:
    path = tmp_path / "video"
    path.write_bytes(data)
    assert missing_bytes(path) == lacking


def test_captures_are_opened_in_one_place() -> None:
    files = [p for room in ("edgedet", "export", "models", "runtime") for p in (ROOT / room).rglob("*.py")]
    found = [p.name for p in files if "VideoCapture(" in p.read_text(encoding="utf-8")]
    assert found == ["capture.py"]
