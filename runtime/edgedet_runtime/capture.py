"""Frames of a video file, a camera or a device, and whether they came to the end that was to be expected.

A camera has no end of its own: one that gives no more frames was unplugged. A video file says how long it is: one that
stops well before was cut off. Whatever is no plain file is read by a thread of its own, so that a stream that stalls
is noticed; the thread is given up then, since no call of OpenCV's can be stopped from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["STALL_S", "capture_frames"]

STALL_S = 20.0
"""How long a camera may take for a frame; the first includes its start."""

_LEAST_SHARE, _SLACK_FRAMES = 0.98, 1
"""How much of a video must be there: containers round their length, and codecs keep a frame back."""


def capture_frames(source: int | Path, name: str, *, stall_s: float = STALL_S) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the frames, uint8 (h, w, 3) BGR, of a camera by its number, or of a video file or device.

    Raises:
        InputError: Nothing can be read, or the frames end too early: a cut file, a camera that went away, a stream
            that stalls.
    """
    if isinstance(source, Path) and source.is_file():
        yield from _of_file(source, name)
    else:
        yield from _of_device(source, name, stall_s)


def _of_file(path: Path, name: str) -> Iterator[npt.NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path))
    try:
        claimed, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        count, position_ms = 0, 0.0
        while (image := _next(capture)) is not None:
            position_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            count += 1
            yield image
    finally:
        capture.release()
    if count == 0:
        raise _nothing(name)
    least = claimed * _LEAST_SHARE - _SLACK_FRAMES if claimed < 1e9 else 0.0
    # Where frames come at uneven times, the number of frames may be an estimate; then the time tells.
    if count < least and (rate <= 0 or position_ms / 1000 < (least - 1) / rate):
        raise InputError(f"{name}: expected {claimed:.0f} frames, as the file says, got {count}: it is cut off")


def _of_device(source: int | Path, name: str, stall_s: float) -> Iterator[npt.NDArray[np.uint8]]:
    wishes: SimpleQueue[bool] = SimpleQueue()
    frames: SimpleQueue[npt.NDArray[np.uint8] | None] = SimpleQueue()

    def read() -> None:
        capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        while wishes.get():
            frames.put(_next(capture))
        capture.release()

    Thread(target=read, name=f"capture {name}", daemon=True).start()
    count = 0
    try:
        while True:
            wishes.put(True)
            try:
                image = frames.get(timeout=stall_s)
            except Empty:
                raise InputError(f"{name}: expected a frame within {stall_s:g} s, got {count} and then none") from None
            if image is None:
                break
            count += 1
            yield image
    finally:
        wishes.put(False)
    if count == 0:
        raise _nothing(name)
    raise InputError(f"{name}: expected frames for as long as it is read, got {count} and then none: is it unplugged?")


def _next(capture: cv2.VideoCapture) -> npt.NDArray[np.uint8] | None:
    try:
        good, image = capture.read()
    except cv2.error:  # a frame that OpenCV cannot convert
        return None
    return np.asarray(image, np.uint8) if good else None


def _nothing(name: str) -> InputError:
    return InputError(f"{name}: expected a video or camera that OpenCV can read, it gave no frame")
