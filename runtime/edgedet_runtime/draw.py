"""Boxes, names, scores and keypoints drawn into a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime.detections import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["draw"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.618033988749895


def draw(image_bgr: npt.NDArray[np.uint8], detections: Detections) -> npt.NDArray[np.uint8]:
    """Return a copy of a picture with its detections drawn in.

    Lines and letters scale with the picture; each class has a color of its own; the best objects are on top.

    Args:
        image_bgr: uint8 (h, w, 3), the picture that the detections are of.
        detections: What to draw.

    Returns:
        uint8 (h, w, 3), a new array.
    """
    canvas: npt.NDArray[np.uint8] = image_bgr.copy()
    height, width = canvas.shape[:2]
    line = max(1, round((height + width) / 2 * 0.003))
    scale = max(0.35, line / 3)
    points = detections.keypoints_xy
    for i, box in reversed(list(enumerate(detections))):
        x0, y0, x1, y1 = (round(v) for v in box.xyxy)
        color = _color(box.class_id)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), color, line, cv2.LINE_AA)
        for x, y in [] if points is None else points[i].tolist():
            cv2.circle(canvas, (round(x), round(y)), 2 * line, color, cv2.FILLED, cv2.LINE_AA)
        _label(canvas, f"{box.name} {box.score:.2f}", (x0, y0), color, scale, max(1, line // 2))
    return canvas


def _label(
    canvas: npt.NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    color: tuple[int, int, int],
    scale: float,
    thickness: int,
) -> None:
    """Write text on a filled background above a box's corner, or inside it where there is no room above."""
    (w, h), base = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = h // 4
    tall = h + base + margin
    height, width = canvas.shape[:2]
    x = max(0, min(corner[0], width - w - 2 * margin))
    y = corner[1] - tall if corner[1] >= tall else min(corner[1], height - tall)
    cv2.rectangle(canvas, (x, y), (x + w + 2 * margin, y + tall), color, cv2.FILLED)
    bright = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(canvas, text, (x + margin, y + margin // 2 + h), _FONT, scale, ink, thickness, cv2.LINE_AA)


def _color(class_id: int) -> tuple[int, int, int]:
    """Return a class's BGR color: hues a golden section apart, so that neighbors differ most."""
    import colorsys

    r, g, b = colorsys.hsv_to_rgb((class_id * _GOLDEN + 0.02) % 1.0, 0.85, 0.95)
    return round(b * 255), round(g * 255), round(r * 255)
