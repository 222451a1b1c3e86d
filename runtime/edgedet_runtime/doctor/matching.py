"""Two sets of detections that should be the same: how far apart are they?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgedet_runtime.detections import Detections
from edgedet_runtime.overlap import box_iou

__all__ = ["Difference", "difference"]

_SAME_OBJECT = 0.5
_SAME_PLACE_PX = 0.5
"""Boxes as near as this are the same place even where they have no area, as at a picture's edge."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two sets of detections differ.

    Attributes:
        missing: Expected objects without a counterpart (same class, IoU at least 0.5).
        extra: Objects that nobody expected.
        box_px: Largest difference of a matched box's edge, pixels.
        score: Largest difference of a matched score.
    """

    missing: int
    extra: int
    box_px: float
    score: float

    def within(self, *, box_px: float, score: float) -> bool:
        """Tell whether every object has its counterpart, within these bounds."""
        return not self.missing and not self.extra and self.box_px <= box_px and self.score <= score

    def __str__(self) -> str:
        """Return the difference in words."""
        parts = [f"boxes within {self.box_px:.3g} px, scores within {self.score:.2g}"]
        if self.missing:
            parts.append(f"{self.missing} missing")
        if self.extra:
            parts.append(f"{self.extra} extra")
        return ", ".join(parts)


def difference(expected: Detections, found: Detections) -> Difference:
    """Match detections of one picture greedily by IoU within a class, best expected score first."""
    box_px = score = 0.0
    taken = np.zeros(len(found), np.bool_)
    missing = 0
    for box, expected_score, class_id in zip(
        expected.boxes_xyxy.astype(np.float64), expected.scores, expected.class_ids, strict=True
    ):
        overlaps = box_iou(box[None], found.boxes_xyxy)[0]
        overlaps[np.abs(found.boxes_xyxy - box).max(axis=1, initial=0.0) <= _SAME_PLACE_PX] = 1.0
        overlaps[taken | (found.class_ids != class_id)] = -1.0
        best = int(np.argmax(overlaps)) if len(overlaps) else -1
        if best < 0 or overlaps[best] < _SAME_OBJECT:
            missing += 1
            continue
        taken[best] = True
        box_px = max(box_px, float(np.abs(found.boxes_xyxy[best] - box).max()))
        score = max(score, abs(float(found.scores[best]) - float(expected_score)))
    return Difference(missing, int((~taken).sum()), box_px, score)
