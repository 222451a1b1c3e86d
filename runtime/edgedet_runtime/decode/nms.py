"""Models exported with ``--outputs nms``: one output (K, 6), each row xyxy in input pixels, score, class.

Rows that a fixed-size output does not use score 0. ``multi_label`` was decided at export and is ignored here.
"""

from __future__ import annotations

import numpy as np

from edgedet_runtime.candidates import Candidates, Outputs
from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import DecodeSpec

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Filter final boxes by their scores."""
    name = spec.levels[0].boxes
    array = outputs[name]
    if array.shape[-1:] != (6,) or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0] != 1):
        raise EngineError(f"output {name}: expected shape (K, 6), got {array.shape}")
    rows = array.reshape(-1, 6)
    if np.isnan(rows).any():
        raise EngineError(f"output {name}: contains NaN; the model file is damaged or overflows on this engine")
    index = np.flatnonzero(rows[:, 4] > np.float32(conf))
    rows = rows[index]
    with np.errstate(invalid="ignore"):  # a class that is no number of a class becomes one that no spec names
        class_ids = rows[:, 5].astype(np.int64)
    return Candidates(rows[:, :4].copy(), rows[:, 4].copy(), class_ids)
