"""Models exported with ``--outputs decoded``: one output (1, M, 4 + classes), xyxy in input px and scores."""

from __future__ import annotations

import numpy as np

from edgedet_runtime.candidates import Candidates, Outputs
from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import DecodeSpec

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Filter decoded boxes by their scores."""
    name = spec.levels[0].boxes
    array = outputs[name]
    if array.ndim != 3 or array.shape[0] != 1 or array.shape[2] < 5:
        raise EngineError(f"output {name}: expected shape (1, M, 4 + classes), got {array.shape}")
    rows = array[0]
    best = rows[:, 4:].max(axis=1)
    index = np.flatnonzero(best > np.float32(conf))
    boxes, scores = rows[index, :4], rows[index, 4:]
    if np.isnan(best).any() or np.isnan(boxes).any():
        raise EngineError(f"output {name}: contains NaN; the model file is damaged or overflows on this engine")
    if not multi_label:
        return Candidates(boxes, best[index], scores.argmax(axis=1).astype(np.int64, copy=False))
    which, class_ids = np.nonzero(scores > np.float32(conf))
    return Candidates(boxes[which], scores[which, class_ids], class_ids)
