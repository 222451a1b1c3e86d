"""Matching of detections that should be the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet_runtime import Detections
from edgedet_runtime.doctor.matching import difference

NAMES = ("cat", "dog")


def one(box: tuple[float, float, float, float], class_id: int = 0, score: float = 0.5) -> Detections:
    """Return a single detection."""
    boxes = np.array([box], np.float32)
    return Detections(boxes, np.array([score], np.float32), np.array([class_id], np.int64), NAMES)


def none() -> Detections:
    """Return no detection."""
    empty = np.empty(0)
    return Detections(np.empty((0, 4), np.float32), empty.astype(np.float32), empty.astype(np.int64), NAMES)


@pytest.mark.parametrize(
    ("expected", "found", "missing", "extra"),
    [
        (one((0, 0, 10, 10)), one((0.2, 0, 10, 10)), 0, 0),
        (one((0, 0, 10, 10)), one((0, 0, 10, 10), class_id=1), 1, 1),
        (one((0, 0, 10, 10)), one((20, 20, 30, 30)), 1, 1),
        (one((0, 5, 0, 9)), one((0, 5, 0, 9)), 0, 0),
        (one((0, 5, 0, 9)), one((0, 15, 0, 19)), 1, 1),
        (one((0, 0, 10, 10)), none(), 1, 0),
        (none(), one((0, 0, 10, 10)), 0, 1),
        (none(), none(), 0, 0),
    ],
    ids=["near", "other class", "elsewhere", "no area", "no area, elsewhere", "lost", "added", "empty"],
)
def test_difference(expected: Detections, found: Detections, missing: int, extra: int) -> None:
    seen = difference(expected, found)
    assert (seen.missing, seen.extra) == (missing, extra)
