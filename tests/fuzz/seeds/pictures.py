"""One drawn scene in every format and kind that OpenCV writes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tests.fuzz.case import Files

__all__ = ["drawn", "pictures"]

_KINDS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 80)),
    (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    (".png", ()),
    (".png", (cv2.IMWRITE_PNG_COMPRESSION, 0)),
    (".bmp", ()),
    (".webp", (cv2.IMWRITE_WEBP_QUALITY, 80)),
    (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
    (".tiff", ()),
    (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 1)),
    (".ppm", ()),
    (".ppm", (cv2.IMWRITE_PXM_BINARY, 0)),
)


def drawn(size_hw: tuple[int, int] = (48, 64), seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return boxes on a noisy ground, uint8 (h, w, 3), BGR."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size_hw, 3), np.uint8)
    for _ in range(3):
        x, y = int(rng.integers(0, size_hw[1] - 10)), int(rng.integers(0, size_hw[0] - 10))
        cv2.rectangle(image, (x, y), (x + 9, y + 9), tuple(int(c) for c in rng.integers(100, 255, 3)), -1)
    return image


def pictures(folder: Path) -> list[Files]:
    """Return small pictures, in color, gray, with alpha and with 16 bits where the format can."""
    color = drawn()
    gray = cv2.cvtColor(color, cv2.COLOR_BGR2GRAY)
    alpha = cv2.cvtColor(color, cv2.COLOR_BGR2BGRA)
    made = [(ending, _encoded(ending, color, *options)) for ending, options in _KINDS]
    made += [(ending, _encoded(ending, gray)) for ending in (".jpg", ".png", ".bmp", ".pgm", ".tiff")]
    made += [(ending, _encoded(ending, alpha)) for ending in (".png", ".webp", ".tiff")]
    made += [(ending, _encoded(ending, color.astype(np.uint16) * 257)) for ending in (".png", ".tiff")]
    made += [(".gif", _gif()), (".jpg", _turned(_encoded(".jpg", color))), (".bmp", _old_bmp())]
    return [{f"picture{ending}": data} for ending, data in made]


def _encoded(ending: str, image: npt.NDArray[Any], *options: int) -> bytes:
    done, data = cv2.imencode(ending, image, list(options))
    assert done, f"OpenCV writes {ending}"
    return data.tobytes()


def _gif() -> bytes:
    """Return a GIF of 4x4 pixels: a palette of two colors, one image, its codes uncompressed."""
    head = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    body = b"," + struct.pack("<HHHHB", 0, 0, 4, 4, 0) + b"\x02\x05\x84\x8f\xa9\xcb\x05\x00"
    return head + b"!\xf9\x04\x00\x00\x00\x00\x00" + body + b";"


def _turned(jpeg: bytes) -> bytes:
    """Put an Exif segment with an orientation into a JPEG."""
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def _old_bmp() -> bytes:
    """Return a BMP with OS/2's header, 4x2 pixels of 24 bits."""
    pixels = bytes(range(24))
    return b"BM" + struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + struct.pack("<IHHHH", 12, 4, 2, 1, 24) + pixels
