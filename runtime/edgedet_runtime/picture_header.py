"""What a file is and how large its picture, by its first bytes, before anything is decoded.

Layouts from the formats' own specifications: PNG (ISO/IEC 15948, 5.2 and 11.2.2), JPEG (ITU-T T.81, B.2.2), BMP
(BITMAPINFOHEADER), GIF89a (18), WebP (RFC 9649, 2.5 to 2.7), TIFF 6.0 (2), Netpbm's PBM, PGM and PPM.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

__all__ = ["HEAD_BYTES", "check_png", "picture_format", "picture_size"]

HEAD_BYTES = 16
"""How many bytes `picture_format` looks at."""

_PNG = b"\x89PNG\r\n\x1a\n"
# JPEG's markers (T.81, table B.1): those that hold the size, those that stand alone, and what comes after all headers
_FRAME_HEADERS = b"\xc0\xc1\xc2\xc3\xc5\xc6\xc7\xc9\xca\xcb\xcd\xce\xcf"
_ALONE = b"\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8"
_TOO_LATE = b"\xd9\xda"
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


def picture_format(head: bytes) -> str | None:
    """Return the format that a file's first bytes announce; None: no picture that edgedet reads."""
    starts = {_PNG: "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
    starts |= {b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    for start, name in starts.items():
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    return "PNM" if re.match(rb"P[1-6]\s", head) else None


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height as the header says.

    Args:
        data: The whole file, of a format that `picture_format` knows.

    Raises:
        ValueError: The header is cut short or malformed.
    """
    try:
        return _READERS[picture_format(data[:HEAD_BYTES]) or ""](data)
    except (struct.error, IndexError, KeyError):
        raise ValueError("its header is cut short") from None


def check_png(data: bytes) -> None:
    """Check that a PNG is whole: each chunk's length and checksum, up to the last.

    Raises:
        ValueError: It is not.
    """
    at, kind = len(_PNG), b""
    view = memoryview(data)
    while kind != b"IEND":
        try:
            length, kind = struct.unpack_from(">I4s", data, at)
            end = at + 8 + length
            (checksum,) = struct.unpack_from(">I", data, end)
        except struct.error:
            raise ValueError("its end is missing") from None
        if zlib.crc32(view[at + 4 : end]) != checksum:
            raise ValueError("a checksum does not match")
        at = end + 4


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("its header is malformed")
        kind = data[at + 1]
        if kind in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if kind == 0xFF:
            at += 1
        elif kind in _ALONE:
            at += 2
        else:
            length = struct.unpack_from(">H", data, at + 2)[0]
            if kind in _TOO_LATE or length < 2:
                raise ValueError("its header is malformed")
            at += 2 + length


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2's header
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # negative: stored from the top


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        sides = struct.unpack_from("3s3s", data, 24)
        width, height = (int.from_bytes(side, "little") + 1 for side in sides)
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ValueError("its header is malformed")
    return width, height


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data[:1] == b"I" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    sides = {}
    for entry in range(struct.unpack_from(f"{order}H", data, start)[0]):
        at = start + 2 + 12 * entry
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
            sides[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, at + 8)[0]
    return sides[_TIFF_WIDTH], sides[_TIFF_HEIGHT]


def _pnm(data: bytes) -> tuple[int, int]:
    found = re.match(rb"P[1-6](?:\s+|#[^\n]*\n)+(\d{1,10})(?:\s+|#[^\n]*\n)+(\d{1,10})\s", data[:4096])
    if found is None:
        raise ValueError("its header is malformed")
    return int(found[1]), int(found[2])


_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "GIF": _gif,
    "BMP": _bmp,
    "WebP": _webp,
    "TIFF": _tiff,
    "PNM": _pnm,
}
