"""Which candidates become detections: suppression where the head needs it, the best `max_det` in any case."""

from __future__ import annotations

import numpy as np

from edgedet_runtime.blend import blend
from edgedet_runtime.candidates import Candidates
from edgedet_runtime.nms import nms
from edgedet_runtime.spec import DecodeSpec, Thresholds

__all__ = ["select"]


def select(found: Candidates, decode: DecodeSpec, limits: Thresholds) -> Candidates:
    """Return the detections among candidates, best first.

    With ``decode.suppression`` "nms": greedy suppression within each class, or across classes where
    ``limits.class_agnostic`` says so. With "blend": means of groups, see `edgedet_runtime.blend`. With "none" no two
    boxes are compared: a head that was trained one-to-one gives each object one box already. Its official top-k (the
    best cells, then the best pairs of cell and class among them) keeps the same candidates, since the cell of one of
    the best pairs is one of the best cells.

    Args:
        found: From `decode_outputs`.
        decode: The model's decode rules.
        limits: The settings in force; `iou` and `class_agnostic` count for suppression only.
    """
    if decode.suppression == "blend":
        return blend(found, iou=limits.iou, max_det=limits.max_det, class_agnostic=limits.class_agnostic)
    if decode.suppression == "nms":
        classes = None if limits.class_agnostic else found.class_ids
        return found.take(nms(found.boxes_xyxy, found.scores, classes, iou=limits.iou, max_det=limits.max_det))
    order = np.argsort(-found.scores, kind="stable")
    order = order[np.isfinite(found.boxes_xyxy[order]).all(axis=1)]
    return found.take(order[: limits.max_det])
