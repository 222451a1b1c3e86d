"""Queries (DETR, Carion et al. 2020): a set of boxes, each with class logits, and no grid.

Boxes are center and size, in units of `DecodeSpec.unit_xy`: fractions of the input in RT-DETR and D-FINE. Their decoder
has applied the sigmoid to boxes already, but not to class logits, so a query is dropped by its best logit. The official
selection, the best `max_det` pairs of query and class, is `multi_label` here and what `selection.select` keeps.

Candidates are ordered by query, and with `multi_label` by class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Outputs, coarse_logit, sigmoid
from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import DecodeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["decode"]


def decode(outputs: Outputs, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode raw outputs of kind `queries`."""
    level = spec.levels[0]
    assert level.scores is not None, "validated by DecodeSpec"
    boxes = _rows(outputs, level.boxes, width=4)
    logits = _rows(outputs, level.scores, queries=len(boxes))
    threshold = coarse_logit(conf)
    index = np.flatnonzero(logits.max(axis=1) > threshold)
    some = logits[index]
    if multi_label:
        which, class_ids = np.nonzero(some > threshold)
    else:
        which, class_ids = np.arange(len(some)), some.argmax(axis=1)
    scores = sigmoid(some[which, class_ids])
    exact = np.flatnonzero(scores > np.float32(conf))
    xywh = boxes[index[which[exact]]]
    half = xywh[:, 2:] * np.float32(0.5)
    corners = np.concatenate((xywh[:, :2] - half, xywh[:, :2] + half), axis=1)
    corners *= np.array(spec.unit_xy * 2, np.float32)
    return Candidates(corners, scores[exact], class_ids[exact].astype(np.int64, copy=False))


def _rows(outputs: Outputs, name: str, *, width: int | None = None, queries: int | None = None) -> Floats:
    """View an output (1, Q, C) as (Q, C)."""
    array = outputs[name]
    good = array.ndim == 3 and array.shape[0] == 1 and array.shape[2] > 0
    good = good and width in (None, array.shape[2]) and queries in (None, array.shape[1])
    if not good:
        expected = f"(1, {'Q' if queries is None else queries}, {width or 'classes'})"
        raise EngineError(f"output {name}: expected shape {expected}, got {array.shape}: not the spec's model")
    if np.isnan(array).any():
        raise EngineError(f"output {name}: contains NaN; the model file is damaged or overflows on this engine")
    rows: Floats = array[0]
    return rows
