"""Pictures one by one, from a file, folder, glob, video or camera."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet_runtime.capture import STALL_S, capture_frames
from edgedet_runtime.errors import InputError
from edgedet_runtime.pictures import PICTURE_SUFFIXES, FolderListing, list_folder, looks_like_picture, read_image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Frame", "Source", "find_source", "iter_frames"]

_LOGGER = logging.getLogger(__name__)
_VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

Failed = Callable[[str, InputError], object]
"""Called with the path of what failed, and the error."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes:
        path: File it came from; ``camera:N`` for a camera.
        index: Number of the frame within a video or camera stream, of the picture within its source
            otherwise.
        image_bgr: uint8 (h, w, 3).
        stream: Whether it belongs to a video or camera rather than being a picture of its own.
    """

    path: str
    index: int
    image_bgr: npt.NDArray[np.uint8]
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """What a source is.

    Attributes:
        camera: Number of a camera; None: it is files.
        files: Pictures, videos and devices, in order.
        many: Whether it names several files, as a folder or a pattern does.
    """

    camera: int | None
    files: tuple[Path, ...]
    many: bool


def find_source(source: str | Path | int) -> Source:
    """Find out what a source is, without reading a picture.

    Args:
        source: An image or video file, a folder of images (not recursive, by name), a glob pattern, a camera index
            as a number or digits, or a device such as ``/dev/video0``.

    Raises:
        InputError: Nothing is there.
    """
    text = str(source)
    path = Path(text)
    try:
        there, folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        there = folder = False
    if isinstance(source, int) or (text.isascii() and text.isdecimal() and len(text) < 6 and not there):
        return Source(int(text), (), many=False)
    if folder:
        return Source(None, _in_folder(path), many=True)
    if there and path.is_socket():
        raise InputError(f"{text}: expected an image, folder, video or camera, got a socket")
    if there:
        return Source(None, (path,), many=False)
    if glob.has_magic(text):
        matches = [Path(p) for p in sorted(glob.glob(text, recursive=True))]
        files = [p for p in matches if p.is_file() and (_is_video(p) or _is_picture(p))]
        if not files:
            raise InputError(f"{text}: matches no image or video")
        return Source(None, tuple(files), many=True)
    raise InputError(f"{text}: expected an image, folder, glob pattern, video or camera index; does not exist")


def iter_frames(
    source: Source | str | Path | int, *, failed: Failed | None = None, stall_s: float = STALL_S
) -> Iterator[Frame]:
    """Yield the pictures of a source, reading one at a time.

    A stream's frame lends its memory to a later one when nobody holds it or a view of it any more.

    Args:
        source: As for `find_source`, or what it found.
        failed: Called with path and error where a picture cannot be read or a stream ends too early; the pictures that
            are left follow. None: the error is raised.
        stall_s: How long a camera or device may take for a frame, in seconds.

    Raises:
        InputError: Nothing is there, a file cannot be decoded, a camera cannot be opened, or a stream ends too early:
            a camera that is unplugged or stalls, a video that is cut off. What came before is yielded first.
    """
    found = source if isinstance(source, Source) else find_source(source)
    if found.camera is not None:
        name = f"camera:{found.camera}"
        yield from _guarded(_stream(found.camera, name, stall_s), name, failed)
    for index, file in enumerate(found.files):
        yield from _guarded(_file(file, index, stall_s), str(file), failed)


def _guarded(frames: Iterator[Frame], name: str, failed: Failed | None) -> Iterator[Frame]:
    try:
        yield from frames
    except InputError as e:
        if failed is None:
            raise
        failed(name, e)


def _in_folder(folder: Path) -> tuple[Path, ...]:
    listing = list_folder(folder)
    if not listing.pictures:
        kinds = "JPEG, PNG, BMP, GIF, WebP, TIFF, PNM"
        raise InputError(f"{folder}: expected images ({kinds}), there are none{_others(listing)}")
    if listing.others:
        count, first = len(listing.others), listing.others[0].name
        _LOGGER.warning("%s: %d of its files are no images and are passed over (such as %r)", folder, count, first)
    return listing.pictures


def _others(listing: FolderListing) -> str:
    return f" among its {len(listing.others)} files" if listing.others else ""


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEO_SUFFIXES and not looks_like_picture(path)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES or looks_like_picture(path)


def _file(path: Path, index: int, stall_s: float) -> Iterator[Frame]:
    if _is_video(path) or not path.is_file():
        yield from _stream(path, str(path), stall_s)
    else:
        yield Frame(str(path), index, read_image(path))


def _stream(source: int | Path, name: str, stall_s: float) -> Iterator[Frame]:
    for index, image in enumerate(capture_frames(source, name, stall_s=stall_s)):
        yield Frame(name, index, image, stream=True)
