"""Two sets of detections that should be the same: how far apart are they?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet_runtime.detections import Detections
from edgedet_runtime.overlap import box_iou
from edgedet_runtime.pairing import pair_greedily

__all__ = ["Difference", "Matching", "detections_differ", "difference", "match", "without_counterpart"]

_SAME_OBJECT = 0.5
_SAME_PLACE_PX = 0.5
"""Boxes as near as this are the same place even where they have no area, as at a picture's edge."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Who belongs to whom, as indices into the two sets.

    Attributes:
        pairs: Expected and found.
        missing: Expected without a counterpart.
        extra: Found without one.
    """

    pairs: tuple[tuple[int, int], ...]
    missing: tuple[int, ...]
    extra: tuple[int, ...]


def match(expected: Detections, found: Detections, nearness: npt.NDArray[np.floating]) -> Matching:
    """Match greedily within a class: each expected object, in order, takes the nearest that is left.

    Args:
        expected: Best score first, as a detector gives them.
        found: What was found.
        nearness: (expected, found); above 0 where the two may be one object, more where they are nearer.
    """
    pairs = pair_greedily(nearness * (expected.class_ids[:, None] == found.class_ids[None]))
    matched, taken = ({pair[side] for pair in pairs} for side in (0, 1))
    return Matching(
        tuple(pairs),
        tuple(i for i in range(len(expected)) if i not in matched),
        tuple(j for j in range(len(found)) if j not in taken),
    )


def without_counterpart(
    these: Detections, those: Detections, *, box_px: float, score: float, unsure: Sequence[float] = ()
) -> list[int]:
    """Return the detections of one set that have no counterpart in another of the same picture.

    Args:
        these: Whose detections are looked for.
        those: Where they are looked for.
        box_px: Tolerance on each coordinate, pixels of the picture.
        score: Tolerance on scores.
        unsure: Detections whose score is within `score` of one of these thresholds may be missing.

    Returns:
        Indices into `these`, ascending.
    """
    apart_px = np.abs(these.boxes_xyxy[:, None] - those.boxes_xyxy[None]).max(axis=2, initial=0.0)
    apart = np.abs(these.scores[:, None].astype(np.float64) - those.scores[None])
    matching = match(these, those, ((apart_px <= box_px) & (apart <= score)).astype(np.float32))
    return [i for i in matching.missing if all(abs(float(these.scores[i]) - limit) > score for limit in unsure)]


def detections_differ(
    expected: Detections, got: Detections, *, box_px: float, score: float, unsure: Sequence[float] = ()
) -> str | None:
    """Return the first difference between two sets of detections of one picture as a phrase, or None.

    Args:
        expected: What should be there.
        got: What is there.
        box_px: Tolerance on each coordinate, pixels of the picture.
        score: Tolerance on scores.
        unsure: Detections whose score is within `score` of one of these thresholds may be missing or extra.
    """
    for words, these, those in (("no match for", expected, got), ("an extra", got, expected)):
        for i in without_counterpart(these, those, box_px=box_px, score=score, unsure=unsure):
            name = these.names[int(these.class_ids[i])]
            box = these.boxes_xyxy[i].astype(np.float64).round(2).tolist()
            return f"{words} {name} {these.scores[i]:.4f} at {box}"
    return None


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
        """Return whether every object has its counterpart, within these bounds."""
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
    """Match detections of one picture by IoU and measure how far apart they are."""
    boxes = expected.boxes_xyxy.astype(np.float64)
    nearness = box_iou(boxes, found.boxes_xyxy)
    apart_px = np.abs(boxes[:, None] - found.boxes_xyxy[None]).max(axis=2)
    nearness[apart_px <= _SAME_PLACE_PX] = 1.0
    nearness[nearness < _SAME_OBJECT] = 0.0
    matching = match(expected, found, nearness)
    box_px = max((float(apart_px[pair]) for pair in matching.pairs), default=0.0)
    score = max((abs(float(found.scores[j]) - float(expected.scores[i])) for i, j in matching.pairs), default=0.0)
    return Difference(len(matching.missing), len(matching.extra), box_px, score)
