"""Frames of a video file, a camera or a device, and whether they came to the end that was to be expected.

A camera has no end of its own: one that gives no more frames was unplugged. A video file says how long it is, in bytes
and in frames: one that stops before was cut off. Whatever is no plain file is read by a thread of its own, since a read
of OpenCV's blocks: so a stream that stalls is noticed after a deadline. That thread is given up then, since no call of
OpenCV's can be stopped from outside; in all other cases it ends before the frames do.

Frames are read into arrays of earlier frames that nobody holds any more: while each frame is dropped before the next
but one is asked for, a stream takes no new memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from edgedet_runtime.errors import InputError
from edgedet_runtime.video_length import missing_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["STALL_S", "Capture", "capture_frames", "open_capture"]

STALL_S = 20.0
"""How long a camera may take for a frame; the first includes its start."""

_LEAST_SHARE, _SLACK_FRAMES = 0.98, 1
"""How many of a video's frames must be there: some containers estimate their number, and codecs keep a frame back."""

_END_S = 5.0
"""How long closing a camera may take."""

_KEPT = 3


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def read(self, image: npt.NDArray[np.uint8] = ..., /) -> tuple[bool, Any]:
        """Read a frame, into an array if one of its size is given."""
        ...

    def get(self, what: int, /) -> float:
        """Return a property."""
        ...

    def release(self) -> None:
        """Close it."""
        ...


def open_capture(source: int | str) -> Capture:
    """Open a camera by its number, or a video file or device by its path; the one place that does."""
    capture: Capture = cv2.VideoCapture(source)
    return capture


def capture_frames(source: int | Path, name: str, *, stall_s: float = STALL_S) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the frames, uint8 (h, w, 3) BGR, of a camera by its number, or of a video file or device.

    Args:
        source: The camera's number, or the path.
        name: What to call it in messages.
        stall_s: How long a camera or device may take for a frame, in seconds.

    Raises:
        InputError: Nothing can be read, or the frames end too early: a cut file, a camera that went away, a stream
            that stalls.
    """
    if isinstance(source, Path) and source.is_file():
        yield from _of_file(source, name)
    else:
        yield from _of_device(source, name, stall_s)


class _Frames:
    """Reads frames into arrays that nobody but itself holds."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._kept: list[npt.NDArray[np.uint8]] = [np.empty(0, np.uint8)]
        self._alone = self._holders(0)  # how many there are where nobody else holds one
        self._kept.clear()

    def next(self) -> npt.NDArray[np.uint8] | None:
        """Return the next frame; None where there is none, or one that OpenCV cannot convert."""
        free = next((i for i in range(len(self._kept)) if self._holders(i) <= self._alone), None)
        try:
            good, image = self._capture.read() if free is None else self._capture.read(self._kept[free])
        except cv2.error:
            return None
        if not good:
            return None
        frame: npt.NDArray[np.uint8] = np.asarray(image, np.uint8)
        if free is not None and frame is not self._kept[free]:  # of another size than before
            self._kept.clear()
        if all(frame is not kept for kept in self._kept) and len(self._kept) < _KEPT:
            self._kept.append(frame)
        return frame

    def _holders(self, index: int) -> int:
        return sys.getrefcount(self._kept[index])


def _of_file(path: Path, name: str) -> Iterator[npt.NDArray[np.uint8]]:
    capture = open_capture(str(path))
    try:
        claimed, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        count, position_ms = 0, 0.0
        frames = _Frames(capture)
        while (image := frames.next()) is not None:
            position_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            count += 1
            yield image
            del image  # so that it may be written into again
    finally:
        capture.release()
    lacking = missing_bytes(path)
    if count == 0:
        raise _nothing(name, f"; it is cut off, its end of {lacking} bytes is missing" if lacking else "")
    of = f"{claimed:.0f} frames" if 0 < claimed < 1e9 else "a whole file"
    if lacking:
        raise InputError(f"{name}: expected {of}, got {count}: it is cut off, its end of {lacking} bytes is missing")
    least = claimed * _LEAST_SHARE - _SLACK_FRAMES if claimed < 1e9 else 0.0
    # Where frames come at uneven times, the number of frames may be an estimate; then the time tells.
    if count < least and (rate <= 0 or position_ms / 1000 < (least - 1) / rate):
        raise InputError(f"{name}: expected {of}, as the file says, got {count}: it is cut off or damaged")


def _of_device(source: int | Path, name: str, stall_s: float) -> Iterator[npt.NDArray[np.uint8]]:
    wishes: SimpleQueue[bool] = SimpleQueue()
    answers: SimpleQueue[npt.NDArray[np.uint8] | BaseException | None] = SimpleQueue()

    def read() -> None:
        try:
            capture = open_capture(source if isinstance(source, int) else str(source))
            try:
                frames = _Frames(capture)
                while wishes.get():
                    answers.put(frames.next())
            finally:
                capture.release()
        except BaseException as e:  # handed to the consumer, which raises it
            answers.put(e)

    thread = Thread(target=read, name=f"capture {name}", daemon=True)
    thread.start()
    count, stalled = 0, False
    try:
        while True:
            wishes.put(True)
            try:
                answer = answers.get(timeout=stall_s)
            except Empty:
                stalled = True
                raise InputError(f"{name}: expected a frame within {stall_s:g} s, got {count} and then none") from None
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                break
            count += 1
            yield answer
            del answer  # so that it may be written into again
    finally:
        wishes.put(False)
        if not stalled:
            thread.join(_END_S)
    if count == 0:
        raise _nothing(name)
    raise InputError(f"{name}: expected frames for as long as it is read, got {count} and then none: is it unplugged?")


def _nothing(name: str, why: str = "") -> InputError:
    return InputError(f"{name}: expected a video or camera that OpenCV can read, it gave no frame{why}")
