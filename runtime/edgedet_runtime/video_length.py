"""Whether a video file is as long as its container says, read from the container's own sizes.

Facts: MP4 and QuickTime are boxes of a 32-bit size and a type (ISO/IEC 14496-12, 4.2: size 1 means a 64-bit size
follows, 0 to the end of the file). AVI is RIFF chunks of a type and a 32-bit size; large files have several (OpenDML).
Matroska and WebM are an EBML header and a segment whose size is a variable-length integer (RFC 8794, 4), all ones where
it was not known.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["missing_bytes"]

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Return how many bytes the end of a video file lacks; 0 where none do, or where its container does not say."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
            file.seek(0)
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                end = _end_of_riff(file, size)
            elif head[:4] == _EBML:
                end = _end_of_matroska(file)
            elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                end = _end_of_boxes(file, size)
            else:
                return 0
    except OSError:
        return 0
    return max(0, end - size)


def _end_of_riff(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 12 <= size:
        head = _at(file, at, 8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # something behind it; or it was never finished
            break
        at += 8 + length
    return at


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        head = _at(file, at, 16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii() or not head[4:8].decode("ascii").isprintable():
            break  # to the end of the file, or bytes behind the last box
        at += length
    return at


def _end_of_matroska(file: BinaryIO) -> int:
    length = _variable(file, 4)
    if length is None:
        return 0
    at = length[1] + length[0]
    if _at(file, at, 4) != _SEGMENT:
        return 0
    length = _variable(file, at + 4)
    return 0 if length is None else length[1] + length[0]


def _variable(file: BinaryIO, at: int) -> tuple[int, int] | None:
    """Return a variable-length size and where its bytes end; None where it says that it is not known."""
    data = _at(file, at, 8)
    if not data or not data[0]:
        return None
    width = 9 - data[0].bit_length()
    if len(data) < width:
        return None
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else (value, at + width)


def _at(file: BinaryIO, at: int, count: int) -> bytes:
    if at > os.fstat(file.fileno()).st_size:
        return b""
    file.seek(at)
    return file.read(count)
