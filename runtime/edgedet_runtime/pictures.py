"""Read a picture file: the one way, and the one rule for damaged files.

The rule: a picture is read whole or not at all. A file whose end is missing, whose checksums do not match or that the
decoder gives up on is refused, everywhere alike: by ``detect``, ``--calib``, ``eval``, ``compare``, ``train`` and in
the comparisons of an export. What a file is, its first bytes say, not its name. Its size is read before it is decoded,
so that a small file cannot take the machine's memory.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime.errors import InputError
from edgedet_runtime.picture_header import HEAD_BYTES, check_png, picture_format, picture_size

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PICTURE_SUFFIXES", "FolderListing", "decode_image", "list_folder", "looks_like_picture", "read_image"]

PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""How pictures are usually called: a file of such a name whose bytes say otherwise counts as damaged."""

_MOST_BYTES = 1 << 30
_MOST_PX = 1 << 30
"""OpenCV's own limit."""
_FREE_PX, _MOST_PX_PER_BYTE = 1 << 26, 200
"""Beyond 67 million pixels, a file needs a byte for 200 pixels; photographs have one for 20 or less."""


@dataclass(frozen=True, slots=True)
class FolderListing:
    """What lies in a folder.

    Attributes:
        pictures: Files that are pictures by their bytes, and those that only their names call so (damaged ones), by
            name.
        others: Other files, without hidden ones.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture file as uint8 (h, w, 3), BGR, turned as its camera was held.

    Raises:
        InputError: The file is missing, not a picture, too large, or damaged.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise InputError(f"{path}: expected an image, it is no regular file")
            if info.st_size > _MOST_BYTES:
                raise InputError(f"{path}: expected an image of at most {_MOST_BYTES >> 30} GiB, it is larger")
            data = file.read()
    except (OSError, ValueError) as e:  # ValueError: a null character in the name
        why = (e.strerror if isinstance(e, OSError) else None) or e
        raise InputError(f"{path}: cannot be read ({why})") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str, *, half: bool = False) -> npt.NDArray[np.uint8]:
    """Decode a picture file's bytes to uint8 (h, w, 3), BGR.

    Args:
        data: The whole file.
        name: What to call it in messages.
        half: Decode to half the width and height; JPEG does that in a fraction of the time.

    Raises:
        InputError: The bytes are no picture, too large a one, or damaged.
    """
    if not data:
        raise InputError(f"{name}: expected an image, it is empty")
    kind = picture_format(data[:HEAD_BYTES])
    if kind is None:
        raise InputError(f"{name}: expected an image (JPEG, PNG, BMP, GIF, WebP, TIFF or PNM), it is something else")
    try:
        width, height = picture_size(data)
        _check_size(width, height, len(data))
        if kind == "PNG":
            check_png(data)
    except ValueError as e:
        raise InputError(f"{name}: expected an image, it is a damaged {kind}: {e}") from None
    image = _decode(data, cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{name}: expected an image, it is a damaged {kind}")
    return image


def looks_like_picture(path: Path) -> bool:
    """Return whether a file is a picture by its first bytes; no for what is not there or cannot be read."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and picture_format(file.read(HEAD_BYTES)) is not None
    except (OSError, ValueError):
        return False


def list_folder(folder: Path, *, recursive: bool = False) -> FolderListing:
    """List the pictures of a folder.

    Raises:
        InputError: The folder cannot be read.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    try:
        found = sorted(p for p in (folder.rglob("*") if recursive else folder.iterdir()) if p.is_file())
    except OSError as e:
        raise InputError(f"{folder}: cannot be read ({e.strerror or e})") from None
    for path in found:
        if path.name.startswith("."):
            continue
        named = path.suffix.lower() in PICTURE_SUFFIXES
        (pictures if named or looks_like_picture(path) else others).append(path)
    return FolderListing(tuple(pictures), tuple(others))


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for what writes into it, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))


def _check_size(width: int, height: int, size: int) -> None:
    pixels = width * height
    if width < 1 or height < 1:
        raise ValueError(f"{width}x{height} pixels")
    if pixels > _MOST_PX:
        raise ValueError(f"{width}x{height} pixels, more than 2^30")
    if pixels > max(_FREE_PX, size * _MOST_PX_PER_BYTE):
        raise ValueError(f"{width}x{height} pixels in {size} bytes, which no camera writes")


def _decode(data: bytes, flags: int) -> npt.NDArray[np.uint8] | None:
    """Return the decoded picture, None where OpenCV gives up."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)
