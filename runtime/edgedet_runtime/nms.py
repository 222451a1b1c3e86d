"""Greedy class-wise non-maximum suppression, deterministic, in numpy.

The rule: visit boxes by falling score, the lower index first where scores are equal; drop a box if it
overlaps a kept box of its class by IoU > `iou` (strictly). IoU is intersection over union in float32 with
areas ``(x1 - x0) * (y1 - y0)``, as torchvision computes it, on the boxes as they are: adding a
class-dependent offset to separate classes, as is commonly done, costs precision in float32.

The work: boxes are taken in chunks by falling score. A chunk is first compared with all kept boxes, as one
matrix; what survives is compared with itself, and the greedy rule becomes a fixed point: a box is kept if no
kept box before it overlaps it. Iterating that from "all kept" settles at least the next undecided box per
round, so it ends, and the result is unique (the relation only points from earlier to later boxes). Chunks
shrink as kept boxes grow, so that matrices stay in the cache, and the loop ends as soon as `max_det` boxes
are kept.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["nms"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_FIRST_CHUNK = 128
_MAX_CHUNK = 2048
_CELLS = 65536  # matrix elements per step: 4 planes of float32 are 1 MB
_PER_CLASS_FROM = 2048  # candidates, where one pass per class pays for its overhead


def nms(
    boxes_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64] | None = None,
    *,
    iou: float,
    max_det: int | None = None,
) -> npt.NDArray[np.int64]:
    """Return which boxes to keep.

    Args:
        boxes_xyxy: (N, 4), any unit.
        scores: (N,).
        class_ids: (N,); boxes of different classes never suppress each other. None: across classes
            (agnostic).
        iou: Of two boxes that overlap by more than this the lower-scored goes, 0..1.
        max_det: At most this many, the best; None for all.

    Returns:
        int64 (K,): indices of the kept boxes, best first. A box with a NaN or infinite coordinate or score is
        never kept and suppresses nothing.
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    scores = np.asarray(scores, np.float32)
    if boxes.shape != (len(scores), 4) or scores.ndim != 1:
        raise ValueError(f"boxes_xyxy: expected shape ({len(scores)}, 4), got {boxes.shape}")
    if class_ids is not None and class_ids.shape != scores.shape:
        raise ValueError(f"class_ids: expected shape {scores.shape}, got {class_ids.shape}")
    if not len(scores) or max_det == 0:
        return np.zeros(0, np.int64)
    order = _by_falling_score(scores)
    if not math.isfinite(float(boxes.sum()) + float(scores.sum())):
        order = order[np.isfinite(boxes).all(axis=1)[order] & np.isfinite(scores)[order]]
    limit = len(order) if max_det is None else min(max_det, len(order))
    corners = _corners(boxes, order)
    if class_ids is None:
        return order[_suppress(corners, None, iou, limit)]
    classes = class_ids[order].astype(np.int32)
    if len(order) >= _PER_CLASS_FROM and limit >= _PER_CLASS_FROM:
        return order[_suppress_per_class(corners, classes, iou, limit)]
    return order[_suppress(corners, classes, iou, limit)]


def _by_falling_score(scores: Floats) -> Ints:
    """Return indices by falling score, equal scores by rising index.

    Score and index are packed into one integer key, so that the fast unstable sort gives the stable order.
    Float32 orders like its bit pattern, the negative half reversed.
    """
    bits = scores.view(np.int32) if scores.flags.c_contiguous else scores.copy().view(np.int32)
    if bits.min() < 0:
        bits = np.where(scores == 0, 0, bits)  # -0.0 equals 0.0
        bits = np.where(bits < 0, np.int32(-(2**31)) - bits, bits).astype(np.int32)
    keys = -(bits.astype(np.int64) << 32)
    keys += np.arange(len(scores))
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys


def _corners(boxes: Floats, order: Ints) -> Floats:
    """Return float32 (5, N): x0, y0, -x1, -y1, area; so one maximum gives all four edges of an overlap."""
    out = np.empty((5, len(order)), np.float32)
    out[:4] = boxes[order].T
    np.multiply(out[2] - out[0], out[3] - out[1], out=out[4])
    np.negative(out[2:4], out=out[2:4])
    return out


def _suppress_per_class(corners: Floats, classes: npt.NDArray[np.int32], iou: float, limit: int) -> Ints:
    """Return the kept positions in score order, one class after the other."""
    by_class = np.argsort(classes, kind="stable")
    starts = np.flatnonzero(np.diff(classes[by_class], prepend=-1))
    groups = np.split(by_class, starts[1:])
    kept = [g[_suppress(corners[:, g], None, iou, limit)] for g in groups]
    return np.sort(np.concatenate(kept))[:limit]


def _suppress(corners: Floats, classes: npt.NDArray[np.int32] | None, iou: float, limit: int) -> Ints:
    """Return the kept positions of boxes that are given by falling score."""
    n = corners.shape[1]
    kept = np.zeros(0, np.int64)
    start, chunk = 0, _FIRST_CHUNK
    while start < n and len(kept) < limit:
        new = np.arange(start, min(start + chunk, n))
        if len(kept):
            covered = _overlap(corners, classes, kept, new, iou).any(axis=0)
            new = new[~covered]
        new = new[_greedy(_overlap(corners, classes, new, new, iou))]
        kept = np.concatenate((kept, new)) if len(kept) else new
        start += chunk
        chunk = min(max(_CELLS // max(len(kept), 1), _FIRST_CHUNK), _MAX_CHUNK)
    return kept[:limit]


def _overlap(
    corners: Floats, classes: npt.NDArray[np.int32] | None, first: Ints, second: Ints, iou: float
) -> npt.NDArray[np.bool_]:
    """Return a matrix (first, second): IoU above the threshold and the same class."""
    a, b = corners[:, first], corners[:, second]
    edges = np.maximum(a[:4, :, None], b[:4, None, :])
    negative_wh = np.add(edges[:2], edges[2:], out=edges[:2])
    np.minimum(negative_wh, 0, out=negative_wh)
    inter = np.multiply(negative_wh[0], negative_wh[1], out=edges[2])
    union = np.add(a[4][:, None], b[4][None, :], out=edges[3])
    union -= inter
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inter /= union
    above = inter > np.float32(iou)
    if classes is not None:
        above &= classes[first][:, None] == classes[second][None, :]
    return above


def _greedy(overlap: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which boxes greedy suppression keeps, given who overlaps whom in score order."""
    n = len(overlap)
    before, after = np.nonzero(overlap)
    forward = before < after
    before, after = before[forward], after[forward]
    keep = np.ones(n, np.bool_)
    while True:
        settled = np.ones(n, np.bool_)
        settled[after[keep[before]]] = False
        if np.array_equal(settled, keep):
            return keep
        keep = settled
