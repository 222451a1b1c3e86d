"""Pictures one by one, from a file, folder, glob, video or camera."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Frame", "iter_frames", "read_image"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes:
        path: File it came from; ``camera:N`` for a camera.
        index: Number of the frame within a video or camera stream, of the picture within its source
            otherwise.
        image_bgr: uint8 (h, w, 3).
    """

    path: str
    index: int
    image_bgr: npt.NDArray[np.uint8]


def iter_frames(source: str | Path | int) -> Iterator[Frame]:
    """Yield the pictures of a source, reading one at a time.

    Args:
        source: An image or video file, a folder of images (not recursive, by name), a glob pattern, or a
            camera index as a number or digits.

    Raises:
        InputError: Nothing is there, a file cannot be decoded, or a camera cannot be opened. A folder's or
            glob's other files are yielded before a bad one raises.
    """
    text = str(source)
    path = Path(text)
    if isinstance(source, int) or (text.isdecimal() and not path.exists()):
        yield from _capture(int(text), f"camera:{text}")
    elif path.is_dir():
        yield from _images(_in_folder(path))
    elif path.exists():
        yield from _file(path)
    elif glob.has_magic(text):
        matches = [Path(p) for p in sorted(glob.glob(text, recursive=True))]
        files = [p for p in matches if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
        if not files:
            raise InputError(f"{text}: matches no image or video")
        if all(p.suffix.lower() in IMAGE_SUFFIXES for p in files):
            yield from _images(files)
        else:
            for file in files:
                yield from _file(file)
    else:
        raise InputError(f"{text}: expected an image, folder, glob pattern, video or camera index; does not exist")


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as BGR.

    Raises:
        InputError: The file is missing, not an image, or damaged.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(
            f"{path}: expected an image, it is {'empty' if not data.size else 'damaged or another format'}"
        )
    return np.asarray(image, np.uint8)


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"{folder}: expected images ({', '.join(sorted(IMAGE_SUFFIXES))}), there are none")
    return files


def _images(files: list[Path]) -> Iterator[Frame]:
    for index, file in enumerate(files):
        yield Frame(str(file), index, read_image(file))


def _file(path: Path) -> Iterator[Frame]:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        yield from _capture(str(path), str(path))
    else:
        yield Frame(str(path), 0, read_image(path))


def _capture(source: str | int, name: str) -> Iterator[Frame]:
    capture = cv2.VideoCapture(source)
    try:
        index = 0
        while capture.isOpened():
            good, image = capture.read()
            if not good:
                break
            yield Frame(name, index, np.asarray(image, np.uint8))
            index += 1
        if index == 0:
            raise InputError(f"{name}: expected a video or camera that OpenCV can read, it gave no frame")
    finally:
        capture.release()
