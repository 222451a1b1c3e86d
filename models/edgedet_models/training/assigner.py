"""Task-aligned assignment: which candidates answer for which object (TOOD, Feng et al., 2021).

For an object, a candidate's alignment is t = score^alpha * iou^beta, from its own predictions. The `top` best whose
points lie in the object answer for it; one that is claimed twice answers for the object that it overlaps most. The
score to learn is t, scaled so that an object's best candidate gets the object's best IoU: candidates that locate well
are taught to score high.

Candidates come from `decode`, so that any family can be trained: all that is asked of a head are boxes, scores and the
point (cell centre) of each candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgedet_runtime.spec import ModelSpec

__all__ = ["Assignment", "assign", "candidate_points", "pairwise_iou"]

_TINY = 1e-9
_SMALLEST_SIDE_CELLS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """What each candidate has to learn.

    Attributes:
        positive: bool (N, M), candidates that answer for an object.
        boxes: float (N, M, 4), the object's xyxy box where positive.
        scores: float (N, M, C), scores to learn, 0 where not positive.
    """

    positive: Tensor
    boxes: Tensor
    scores: Tensor


def candidate_points(spec: ModelSpec, raw: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return each candidate's cell centre (M, 2) and stride (M,), in pixels, in the order of `decode`."""
    named = dict(zip(spec.decode.output_names, raw, strict=True))
    points, strides = [], []
    for level in spec.decode.levels:
        height, width = named[level.boxes].shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = (torch.stack((x, y), dim=-1).reshape(-1, 2) + 0.5) * level.stride
        anchors = max(1, len(level.anchors_px))
        points.append(centers.repeat(anchors, 1))
        strides.append(torch.full((len(centers) * anchors,), float(level.stride)))
    return torch.cat(points), torch.cat(strides)


def pairwise_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return the IoU of all pairs: (..., A, 4) and (..., B, 4) to (..., A, B)."""
    low = torch.maximum(a_xyxy[..., :, None, :2], b_xyxy[..., None, :, :2])
    high = torch.minimum(a_xyxy[..., :, None, 2:], b_xyxy[..., None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    area_a = (a_xyxy[..., 2:] - a_xyxy[..., :2]).clamp(min=0).prod(dim=-1)
    area_b = (b_xyxy[..., 2:] - b_xyxy[..., :2]).clamp(min=0).prod(dim=-1)
    return overlap / (area_a[..., :, None] + area_b[..., None, :] - overlap + _TINY)


def _inside(points: Tensor, boxes_xyxy: Tensor, smallest_px: float) -> Tensor:
    """bool (N, G, M): the point lies in the box, tiny boxes enlarged so that they hold at least one point."""
    center = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    half = ((boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) / 2).clamp(min=smallest_px / 2)
    away = (points - center[..., None, :]).abs()
    return (away < half[..., None, :]).all(dim=-1)


@torch.no_grad()
def assign(
    boxes_xyxy: Tensor,
    scores: Tensor,
    points: Tensor,
    strides: Tensor,
    objects_xyxy: Tensor,
    class_ids: Tensor,
    valid: Tensor,
    *,
    top: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> Assignment:
    """Assign candidates to objects.

    Args:
        boxes_xyxy: Predicted boxes (N, M, 4), in input pixels.
        scores: Predicted scores (N, M, C), 0..1.
        points: Cell centres (M, 2), in input pixels.
        strides: Strides (M,).
        objects_xyxy: Objects (N, G, 4), in input pixels.
        class_ids: Their classes (N, G), int64.
        valid: bool (N, G), False for padding.
        top: Candidates per object.
        alpha: Exponent of the score.
        beta: Exponent of the IoU.
    """
    n, m, classes = scores.shape
    count = objects_xyxy.shape[1]
    if count == 0:
        empty = torch.zeros(n, m, dtype=torch.bool)
        return Assignment(empty, torch.zeros(n, m, 4), torch.zeros(n, m, classes))
    may = _inside(points, objects_xyxy, _SMALLEST_SIDE_CELLS * float(strides.min())) & valid[..., None]
    iou = pairwise_iou(objects_xyxy, boxes_xyxy) * may
    own_class = class_ids[..., None].expand(n, count, m)
    score = scores.transpose(1, 2).gather(1, own_class)
    alignment = (score.clamp(min=_TINY) ** alpha * iou**beta) * may
    # Where nothing overlaps yet, the order is that of the IoU, then of the finest stride.
    order = (alignment + _TINY * iou + 1e-15 / strides) * may
    best = order.topk(min(top, m), dim=-1).indices
    chosen = torch.zeros_like(may).scatter_(-1, best, True) & may
    # One object per candidate: the one that it overlaps most.
    rival = torch.where(chosen, iou, torch.full_like(iou, -1.0))
    owner = rival.argmax(dim=1)
    positive = chosen.any(dim=1)
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], True)
    alignment, iou = alignment * chosen, iou * chosen
    best_alignment = alignment.amax(dim=-1, keepdim=True)
    best_iou = iou.amax(dim=-1, keepdim=True)
    level = (alignment / (best_alignment + 1e-20) * best_iou).amax(dim=1).clamp(max=1.0)
    batch = torch.arange(n)[:, None]
    target_class = class_ids[batch, owner]
    target = torch.zeros(n, m, classes).scatter_(-1, target_class[..., None], (level * positive)[..., None])
    return Assignment(positive, objects_xyxy[batch, owner], target)
