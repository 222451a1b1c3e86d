"""Golden vectors: a picture and the detections that every file of the bundle must give for it.

They are taken at a threshold of their own, in a gap between scores: a device whose last bits differ must not lose or
gain a box by that, and a network that finds nothing at its default threshold (an untrained one, say) is checked too.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["golden_picture", "threshold_in_gap"]

_WANTED = 20
_GAP_SEARCH = 10


def threshold_in_gap(scores: npt.NDArray[np.float32], wanted: int = _WANTED) -> float:
    """Return a threshold that about `wanted` of the scores exceed, in the middle of the widest gap near there.

    Args:
        scores: Candidate scores, any order.
        wanted: How many shall exceed it.
    """
    ordered = np.sort(np.asarray(scores, np.float64))[::-1]
    if len(ordered) < 2:
        return float(ordered[0]) / 2 if len(ordered) else 0.001
    last = min(wanted, len(ordered) - 1)
    first = max(1, last - _GAP_SEARCH)
    gaps = ordered[first - 1 : last] - ordered[first : last + 1]
    if not gaps.any():  # all alike: below them
        return float(ordered[0]) / 2
    at = first + int(np.argmax(gaps))
    return float((ordered[at - 1] + ordered[at]) / 2)


def golden_picture(image_bgr: npt.NDArray[np.uint8], input_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a picture small enough to travel with every bundle, at 3/4 of the input's size.

    Smaller than the input on purpose: the device's resize is then part of what is checked.
    """
    h, w = image_bgr.shape[:2]
    scale = 0.75 * min(input_hw[0] / h, input_hw[1] / w)
    if scale >= 1:
        return image_bgr
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    return np.asarray(cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
