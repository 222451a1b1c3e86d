"""How much boxes overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["box_iou"]

_SMALLEST_UNION = 1e-12


def box_iou(a_xyxy: npt.NDArray[Any], b_xyxy: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the intersection over union of all pairs.

    Args:
        a_xyxy: (A, 4), any unit.
        b_xyxy: (B, 4), the same unit.

    Returns:
        float64 (A, B), 0..1; 0 where neither box has an area.
    """
    a, b = np.asarray(a_xyxy, np.float64)[:, None], np.asarray(b_xyxy, np.float64)[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = np.clip(high - low, 0.0, None).prod(axis=2)
    union = (a[..., 2:] - a[..., :2]).prod(axis=2) + (b[..., 2:] - b[..., :2]).prod(axis=2) - both
    return np.asarray(np.where(union > 0, both / np.maximum(union, _SMALLEST_UNION), 0.0))
