"""From raw outputs to the objects that they stand for: decode, select, back into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.detections import Detections
from edgedet_runtime.errors import EngineError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.selection import select
from edgedet_runtime.spec import DecodeSpec, ModelSpec, Thresholds

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["postprocess"]


def postprocess(
    raw: Sequence[npt.NDArray[np.float32]],
    letterbox: Letterbox,
    spec: ModelSpec,
    limits: Thresholds,
    *,
    wanted: npt.NDArray[np.bool_] | None = None,
) -> Detections:
    """Return the objects that raw outputs stand for, in pixels of the picture.

    Args:
        raw: Outputs in the order of ``spec.decode.output_names``.
        letterbox: Where the picture lies in the input.
        spec: The model's contract.
        limits: Thresholds in force.
        wanted: Mask over class ids; None for all.

    Raises:
        EngineError: The outputs are not those of the spec, contain NaN, or a class that it does not name.
    """
    found = decode_outputs(raw, spec.decode, conf=limits.conf, multi_label=limits.multi_label)
    if len(found) and not 0 <= found.class_ids.min() <= found.class_ids.max() < len(spec.classes):
        odd = next(int(i) for i in found.class_ids if not 0 <= i < len(spec.classes))
        raise EngineError(
            f"outputs: expected class ids 0 to {len(spec.classes) - 1}, as the spec names them, got {odd}: the file and"
            " its spec do not fit; export it again"
        )
    if wanted is not None:
        found = found.take(wanted[found.class_ids])
    if spec.decode.priors is not None and spec.decode.priors.inclusive:
        best = _inclusive(found, letterbox, spec.decode, limits)
    elif spec.decode.clip != "after-nms":
        best = select(_clipped(found, letterbox, spec.decode), spec.decode, limits)
    else:
        best = _in_picture(select(found, spec.decode, limits), letterbox)
    return Detections(best.boxes_xyxy, best.scores, best.class_ids, spec.classes, best.keypoints_xy)


def _in_picture(found: Candidates, letterbox: Letterbox) -> Candidates:
    """Return candidates in pixels of the picture, boxes cut at its edges."""
    boxes = letterbox.to_image(found.boxes_xyxy)
    return replace(found, boxes_xyxy=boxes, keypoints_xy=_to_image(found.keypoints_xy, letterbox))


def _to_image(points: npt.NDArray[np.float32] | None, letterbox: Letterbox) -> npt.NDArray[np.float32] | None:
    """Return keypoints (N, K, 2) in pixels of the picture; they may lie outside it."""
    if points is None:
        return None
    pairs = points.reshape(-1, 2)
    return letterbox.to_image(np.concatenate((pairs, pairs), axis=1), clip=False)[:, :2].reshape(points.shape)


def _inclusive(found: Candidates, letterbox: Letterbox, decode: DecodeSpec, limits: Thresholds) -> Candidates:
    """Select boxes whose last pixel belongs to them, and bring them into the picture.

    They end at the last pixel of the picture within the input, and their sides count one pixel more in suppression
    (Detectron's and its heirs' geometry). Coordinates of detections are those of the pixels, as that code gives them.
    """
    height, width = letterbox.resized_hw
    end = np.array((width - 1, height - 1) * 2, np.float32)
    last = np.array((0, 0, 1, 1), np.float32)
    cut = np.clip(found.boxes_xyxy, 0, end) if decode.clip != "after-nms" else found.boxes_xyxy
    best = select(replace(found, boxes_xyxy=np.asarray(cut + last, np.float32)), decode, limits)
    return _in_picture(replace(best, boxes_xyxy=best.boxes_xyxy - last), letterbox)


def _clipped(found: Candidates, letterbox: Letterbox, decode: DecodeSpec) -> Candidates:
    """Return candidates in pixels of the picture, cut at its edges; IoU is the same there, whatever the gains."""
    found = _in_picture(found, letterbox)
    boxes = found.boxes_xyxy
    if decode.clip == "before-nms-drop-empty":
        found = found.take(np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1)))
    return found
