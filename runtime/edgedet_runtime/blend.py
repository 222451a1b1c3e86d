"""Weighted suppression: boxes that overlap the best one become one box, their mean weighted by score.

Bazarevsky et al., "BlazeFace", 2019, section 4: less jitter from frame to frame than where the best box wins. The score
is the plain mean, as in ports of MediaPipe's models. Boxes are visited by falling score, within each class; those that
overlap the best by more than `iou`, and the best itself, form a group. The best always leaves, whatever its IoU with
itself: a network without exponentials can give boxes of no or negative size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["blend"]


def blend(found: Candidates, *, iou: float, max_det: int, class_agnostic: bool = False) -> Candidates:
    """Return the means of groups of candidates, best first.

    Args:
        found: Candidates; those that are not finite are dropped.
        iou: Overlap above which a candidate joins the best one's group, 0..1.
        max_det: Groups kept.
        class_agnostic: Group across classes; the best one's class counts.
    """
    usable = np.asarray(np.isfinite(found.boxes_xyxy).all(axis=1))
    order = np.argsort(-found.scores, kind="stable")
    left = found.take(order[usable[order]])
    groups = []
    while len(left):
        joins = _iou_with_first(left.boxes_xyxy) > np.float32(iou)
        if not class_agnostic:
            joins &= left.class_ids == left.class_ids[0]
        joins[0] = True
        groups.append(_mean(left.take(joins)))
        left = left.take(~joins)
    merged = Candidates.concatenate(groups)
    return merged.take(np.argsort(-merged.scores, kind="stable")[:max_det])


def _mean(group: Candidates) -> Candidates:
    """Return one candidate: coordinates weighted by score, the mean score, the first one's class."""
    weight = group.scores / max(group.scores.sum(), np.float32(1e-12))
    points = group.keypoints_xy
    return Candidates(
        np.asarray(weight @ group.boxes_xyxy, np.float32)[None],
        group.scores.mean(keepdims=True, dtype=np.float32),
        group.class_ids[:1],
        None if points is None else np.tensordot(weight, points, axes=1).astype(np.float32)[None],
    )


def _iou_with_first(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the IoU of the first box with each, areas as they are; 0 where the union is not positive."""
    low, high = np.maximum(boxes[:, :2], boxes[0, :2]), np.minimum(boxes[:, 2:], boxes[0, 2:])
    both = np.maximum(high - low, 0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area + area[0] - both
    return np.where(union > 0, both / np.where(union > 0, union, 1), 0).astype(np.float32)
