"""Greedy class-wise non-maximum suppression, deterministic, in numpy.

The rule: visit boxes by falling score, the lower index first where scores are equal; drop a box if it overlaps a kept
box of its class by IoU > `iou` (strictly). IoU is intersection over union in float32 with areas ``(x1 - x0) * (y1 -
y0)``, as torchvision computes it, on the boxes as they are: shifting each class elsewhere to keep classes apart, as is
commonly done, costs precision in float32.

The work: boxes are taken in chunks by falling score. A chunk is first compared with the boxes kept so far, as
matrices that stay in the cache. What survives is compared with itself. There, few pairs come near each other, and a
sweep along x finds them: in a pair with IoU > t the later left edge lies within the first (1 - t) of the other's
width, because the intersection is wider than t times either box. On the pairs that do overlap, the greedy rule is a
fixed point: a box is kept if no kept box before it overlaps it. Iterated from "all kept", each round settles at least
the next undecided box, so it ends; the result is unique, because the relation only points from earlier to later. The
loop stops as soon as `max_det` boxes are kept.

A few boxes are compared one by one in Python's floats instead, since there numpy's calls alone take longer. A pair
whose IoU lies so near `iou` that float32 could see it otherwise, and sizes that float32 does not hold well, leave the
matter to numpy: the result is the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

__all__ = ["nms"]


_CHUNKS = (128, 512)  # candidates per step, the last one repeated
_DENSE = 128  # up to so many boxes are compared with each other as one matrix, more by a sweep
_CELLS = 65536  # of one comparison matrix: 4 planes of float32 are 1 MB
_FEW = 200  # up to so many boxes may be visited in Python
_FEW_PAIRS = 250  # as long as no more pairs have to be compared
_DOUBT = 2e-6  # of an IoU: its error in float32 is below 1e-6
_LEAST, _MOST = 1e-6, 1e6  # widths and heights of which that holds
_SLACK = 1e-5  # of a box's width: far above float32's error in an IoU
_SIGNS = np.array([[1], [1], [-1], [-1]], np.float32)


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
        class_ids: (N,); boxes of different classes never suppress each other. None: across classes (agnostic).
        iou: Of two boxes that overlap by more than this the lower-scored goes, 0..1.
        max_det: At most this many, the best; None for all.

    Returns:
        int64 (K,): indices of the kept boxes, best first. A box with a NaN or infinite coordinate or score is never
        kept and suppresses nothing.

    Raises:
        ValueError: The shapes do not fit.
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    scores = np.asarray(scores, np.float32)
    if scores.ndim != 1 or boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes_xyxy: expected shape ({scores.size}, 4), got {boxes.shape}")
    if class_ids is not None and class_ids.shape != scores.shape:
        raise ValueError(f"class_ids: expected shape {scores.shape}, got {class_ids.shape}")
    if not len(scores) or max_det == 0:
        return np.zeros(0, np.int64)
    if len(scores) <= _FEW:
        found = _one_by_one(boxes, scores, class_ids, iou)
        if found is not None:
            return np.array(found[:max_det], np.int64)
    order = _by_falling_score(scores)
    with np.errstate(all="ignore"):
        edges = _edges_and_area(boxes, order)
        if not (math.isfinite(edges[4].sum()) and math.isfinite(scores.sum())):
            finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
            order = order[finite[order]]
            edges = _edges_and_area(boxes, order)
        classes = None if class_ids is None else class_ids[order]
        limit = len(order) if max_det is None else min(max_det, len(order))
        kept = _suppress(edges, classes, iou, limit)
    return order[kept]


def _one_by_one(boxes: Floats, scores: Floats, classes: Ints | None, iou: float) -> list[int] | None:
    """Return which of a few boxes greedy suppression keeps, best first; None where numpy has to decide.

    That is the case for NaN, infinity and odd sizes, for a pair in doubt, and for many pairs.
    """
    if not (math.isfinite(float(scores.sum())) and iou > _DOUBT):
        return None
    order = (-scores).argsort(kind="stable")
    ids = [0] * len(order) if classes is None else classes.take(order).tolist()
    kept_of: dict[int, list[tuple[float, float, float, float, float]]] = {}
    kept: list[int] = []
    pairs = 0
    for i, class_id, (x0, y0, x1, y1) in zip(order.tolist(), ids, boxes.take(order, axis=0).tolist(), strict=True):
        w, h = x1 - x0, y1 - y0
        if not (_LEAST < w < _MOST and _LEAST < h < _MOST):
            return None
        area = w * h
        rivals = kept_of.get(class_id)
        if rivals is None:
            kept_of[class_id] = [(x0, y0, x1, y1, area)]
            kept.append(i)
            continue
        pairs += len(rivals)
        if pairs > _FEW_PAIRS:
            return None
        for a0, b0, a1, b1, other in rivals:
            if x0 < a1 and a0 < x1 and y0 < b1 and b0 < y1:
                inter = ((x1 if x1 < a1 else a1) - (x0 if x0 > a0 else a0)) * (
                    (y1 if y1 < b1 else b1) - (y0 if y0 > b0 else b0)
                )
                over = inter / (area + other - inter) - iou
                if over > _DOUBT:
                    break
                if over > -_DOUBT:
                    return None
        else:
            kept.append(i)
            rivals.append((x0, y0, x1, y1, area))
    return kept


def _by_falling_score(scores: Floats) -> Ints:
    """Return indices by falling score, equal scores by rising index.

    For many, score and index are packed into one integer key, so that numpy's fast unstable sort gives the stable
    order. A float32 orders like its bit pattern, negative ones in reverse.
    """
    if len(scores) < 1000:
        return np.asarray((-scores).argsort(kind="stable"))
    bits = np.ascontiguousarray(scores).view(np.int32)
    if bits.min() < 0:
        bits = np.where(scores == 0, 0, bits)  # -0.0 equals 0.0
        bits = np.where(bits < 0, np.int32(-(2**31)) - bits, bits)
    keys = -(bits.astype(np.int64) << 32)
    keys += np.arange(len(scores))
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys


def _edges_and_area(boxes: Floats, order: Ints) -> Floats:
    """Return float32 (5, N): x0, y0, -x1, -y1, area; so one maximum gives all four edges of an overlap.

    The area is NaN or infinite if any coordinate is.
    """
    out = np.empty((5, len(order)), np.float32)
    np.multiply(boxes.take(order, axis=0).T, _SIGNS, out=out[:4])
    negative_wh = out[:2] + out[2:4]
    np.multiply(negative_wh[0], negative_wh[1], out=out[4])
    return out


def _suppress(edges: Floats, classes: Ints | None, iou: float, limit: int) -> Ints:
    """Return the kept positions of boxes that are given by falling score."""
    n = edges.shape[1]
    kept = np.zeros(0, np.int64)
    start = step = 0
    while start < n and len(kept) < limit:
        stop = min(start + _CHUNKS[min(step, len(_CHUNKS) - 1)], n)
        new = np.arange(start, stop)
        if step:
            new = _not_covered(edges, classes, kept, new, iou)
        if len(new) > _DENSE:
            new = new[_settle(*_pairs(edges, classes, new, iou), len(new))]
        elif len(new) > 1:
            new = new[_in_turn(edges, classes, new, iou)]
        kept = np.concatenate((kept, new)) if step else new
        start, step = stop, step + 1
    return kept[:limit]


def _iou_above(a: Floats, b: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """Return where boxes `a` and `b` overlap by more than `iou`; (5, …) each, broadcast against each other."""
    inner = np.maximum(a[:4], b[:4])
    negative_wh = np.add(inner[:2], inner[2:], out=inner[:2])
    np.minimum(negative_wh, 0, out=negative_wh)
    inter = np.multiply(negative_wh[0], negative_wh[1], out=inner[2])
    union = np.add(a[4], b[4], out=inner[3])
    union -= inter
    inter /= union
    return np.asarray(inter > np.float32(iou))


def _not_covered(edges: Floats, classes: Ints | None, kept: Ints, new: Ints, iou: float) -> Ints:
    """Return those of `new` that no box of `kept` suppresses."""
    first = 0
    while first < len(kept) and len(new):
        block = kept[first : first + max(_CELLS // len(new), 1)]
        first += len(block)
        a, b = edges.take(block, axis=1), edges.take(new, axis=1)
        hits = np.flatnonzero(_iou_above(a[:, :, None], b[:, None, :], iou))
        if not len(hits):
            continue
        i, j = np.divmod(hits, len(new))
        if classes is not None:
            j = j[classes[block[i]] == classes[new[j]]]
        free = np.ones(len(new), np.bool_)
        free[j] = False
        new = new[free]
    return new


def _in_turn(edges: Floats, classes: Ints | None, new: Ints, iou: float) -> list[int]:
    """Return which of a few boxes greedy suppression keeps, visiting them one by one.

    Each row of the comparison matrix becomes one integer, so that a visit is one bit test and one "or".
    """
    some = edges.take(new, axis=1)
    hits = _iou_above(some[:, :, None], some[:, None, :], iou)
    if classes is not None:
        here = classes[new]
        hits &= here[:, None] == here
    rows = np.packbits(hits, axis=1, bitorder="little")
    packed, width = rows.tobytes(), rows.shape[1]
    gone, keep = 0, []
    for i in range(len(new)):
        if not gone >> i & 1:
            keep.append(i)
            gone |= int.from_bytes(packed[i * width : (i + 1) * width], "little")
    return keep


def _pairs(edges: Floats, classes: Ints | None, new: Ints, iou: float) -> tuple[Ints, Ints]:
    """Return the pairs within `new` that overlap, as positions in it: the better box, the worse box.

    The sweep runs over all classes at once, each shifted to a stretch of the axis of its own; IoU is computed on the
    boxes where they are. Rounding is monotone, so a pair that overlaps cannot be missed.
    """
    some = edges if len(new) == edges.shape[1] else edges.take(new, axis=1)
    left = some[0].astype(np.float64)
    reach = left - (1.0 - iou + _SLACK) * (some[2] + left)
    if classes is not None:
        here = classes[new]
        shift = here * (float(reach.max() - left.min()) + 1.0)
        left += shift
        reach += shift
    by_left = left.argsort()
    ends = left[by_left].searchsorted(reach[by_left], side="right")
    counts = np.maximum(ends - np.arange(1, len(new) + 1), 0)
    first = np.arange(len(new)).repeat(counts)
    skipped = counts.cumsum() - counts - np.arange(1, len(new) + 1)
    second = np.arange(len(first)) - skipped[first]
    first, second = by_left[first], by_left[second]
    hits = np.flatnonzero(_iou_above(some.take(first, axis=1), some.take(second, axis=1), iou))
    first, second = first[hits], second[hits]
    if classes is not None:
        same = here[first] == here[second]
        first, second = first[same], second[same]
    return np.minimum(first, second), np.maximum(first, second)


def _settle(better: Ints, worse: Ints, n: int) -> npt.NDArray[np.bool_]:
    """Return which of `n` boxes greedy suppression keeps, given the pairs that overlap."""
    keep = np.ones(n, np.bool_)
    while len(better):
        settled = np.ones(n, np.bool_)
        settled[worse[keep[better]]] = False
        if (settled == keep).all():
            break
        keep = settled
    return keep
