"""Shrinking by area averaging, in steps that read each pixel once and give cameras' frames the same bits everywhere.

``cv2.INTER_AREA`` weighs pixels in float32 and has fast code for halving only. Here a picture of ``h x w`` becomes
``H x W`` so:

1. Where the sides are whole multiples of the result's, as those of cameras' frames mostly are, each block of rows x
   columns is averaged. While both are even, the picture is halved: each pixel is ``(a + b + c + d + 2) // 4`` of its
   block of 2 x 2. What is left of the blocks is ``rint(float32(sum) * float32(1 / count))`` of its exact sum, halves to
   even. All of it is whole numbers and one float32 product: the same bits on every processor.
2. Elsewhere the picture is halved in the same way while its sides are even and at least four times the result's, and
   `INTER_AREA` does the rest.

Beside `INTER_AREA` on the whole picture: within 1 where the sides are whole multiples (one rounding per step); where
nothing was halved, the same. Where a picture was halved before `INTER_AREA`, pixels on the border between two results
are shared out in pairs, by up to half a pixel of the four or more that a result covers: on photos within 32 at a sharp
edge and 1.5 on average.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime.scratch import Scratch

if TYPE_CHECKING:
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

__all__ = ["shrink"]

_LARGEST_UINT16_BLOCK = 257  # pixels: 257 * 255 is 65535


def shrink(image: Picture, out: Picture, scratch: Scratch) -> None:
    """Average a picture down to the size of `out`.

    Args:
        image: uint8 (h, w, C) or (h, w).
        out: uint8 (H, W, C) or (H, W), written; it may be a window of a larger array. At least one side is smaller than
            the picture's.
        scratch: Keeps the in-between pictures.
    """
    new_h, new_w = out.shape[:2]
    for step in count():
        h, w = image.shape[:2]
        whole = h % new_h == w % new_w == 0
        if whole:
            rows, cols = h // new_h, w // new_w
            halves = rows % 2 == cols % 2 == 0
        else:
            halves = h % 2 == w % 2 == 0 and h >= 4 * new_h and w >= 4 * new_w
        if not halves:
            break
        h, w = h // 2, w // 2
        half = out if (h, w) == (new_h, new_w) else scratch.array(f"half {step}", (h, w, *image.shape[2:]), np.uint8)
        cv2.resize(image, (w, h), dst=half, interpolation=cv2.INTER_AREA)
        image = half
        if half is out:
            return
    if whole:
        _average(image, rows, cols, out, scratch)
    else:
        cv2.resize(image, (new_w, new_h), dst=out, interpolation=cv2.INTER_AREA)


def _average(image: Picture, rows: int, cols: int, out: Picture, scratch: Scratch) -> None:
    """Average whole blocks into `out`: sums that slide over the picture, of which one of each block is taken."""
    kind, depth = (np.uint16, cv2.CV_16U) if rows * cols <= _LARGEST_UINT16_BLOCK else (np.int32, cv2.CV_32S)
    sums = scratch.array("sums", image.shape, kind)
    cv2.boxFilter(image, depth, (cols, rows), dst=sums, anchor=(0, 0), normalize=False)
    chosen = scratch.array("chosen", out.shape, kind)
    cv2.resize(sums, (out.shape[1], out.shape[0]), dst=chosen, interpolation=cv2.INTER_NEAREST)
    cv2.convertScaleAbs(chosen, dst=out, alpha=1 / (rows * cols))
