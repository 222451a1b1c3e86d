"""Lettering: lines, blocks and pages of random text, drawn with the fonts that OpenCV has built in."""

from __future__ import annotations

import string

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_text", "random_words", "text_block"]

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)
_LETTERS = string.ascii_lowercase * 3 + string.ascii_uppercase + string.digits


def random_words(rng: np.random.Generator, count: int) -> str:
    """Return `count` random words with the lengths of a language."""
    words = []
    for _ in range(count):
        length = int(np.clip(rng.poisson(4.5), 1, 12))
        words.append("".join(_LETTERS[i] for i in rng.integers(0, len(_LETTERS), length)))
    text = " ".join(words)
    return text.upper() if rng.random() < 0.25 else text


def draw_text(
    image: NDArray[np.uint8],
    text: str,
    origin: tuple[int, int],
    height_px: float,
    color: tuple[int, int, int],
    rng: np.random.Generator,
) -> int:
    """Draw one line in place and return its width in pixels.

    Args:
        image: uint8 (H, W, 3), changed in place.
        text: ASCII.
        origin: Left end of the base line, (x, y).
        height_px: Height of a capital letter.
        color: BGR.
        rng: Chooses font and weight.
    """
    font = int(_FONTS[int(rng.integers(0, len(_FONTS)))])
    thickness = max(1, round(height_px * rng.uniform(0.06, 0.2)))
    scale = cv2.getFontScaleFromHeight(font, max(4, round(height_px)), thickness)
    cv2.putText(image, text, origin, font, scale, color, thickness, cv2.LINE_AA)
    (width, _), _ = cv2.getTextSize(text, font, scale, thickness)
    return int(width)


def text_block(
    image: NDArray[np.uint8],
    box_xyxy: tuple[int, int, int, int],
    color: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    height_px: float | None = None,
) -> None:
    """Fill a box of `image` with lines of random text, in place."""
    x0, y0, x1, y1 = box_xyxy
    if x1 - x0 < 8 or y1 - y0 < 8:
        return
    view = image[y0:y1, x0:x1]
    height = height_px or float(np.clip((y1 - y0) * rng.uniform(0.06, 0.5), 4, 60))
    y = height * 1.2
    while y < y1 - y0:
        draw_text(
            view,
            random_words(rng, int(rng.integers(1, 3 + int((x1 - x0) // (4 * height))))),
            (2, int(y)),
            height,
            color,
            rng,
        )
        y += height * rng.uniform(1.5, 2.4)
