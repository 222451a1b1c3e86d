"""Losses: complete IoU for boxes, binary cross entropy against aligned scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgedet_models.decode import decode, decode_boxes, score_logits
from edgedet_models.training.assigner import assign, candidate_points
from edgedet_runtime.spec import ModelSpec

__all__ = ["Targets", "complete_iou", "detection_loss"]

_EPS = 1e-7
_BOX_GAIN = 5.0
_SCORE_GAIN = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Objects of a batch, padded to the same number per picture.

    Attributes:
        boxes_xyxy: float32 (N, G, 4), in input pixels.
        class_ids: int64 (N, G).
        valid: bool (N, G), objects to learn.
        ignored: bool (N, G), regions that count neither as object nor as background; neither means padding.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor
    valid: Tensor
    ignored: Tensor


def complete_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return CIoU (Zheng et al., 2020) of boxes (..., 4) pair by pair: IoU less distance and aspect penalties."""
    wh_a = (a_xyxy[..., 2:] - a_xyxy[..., :2]).clamp(min=_EPS)
    wh_b = (b_xyxy[..., 2:] - b_xyxy[..., :2]).clamp(min=_EPS)
    low = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    iou = overlap / (wh_a.prod(dim=-1) + wh_b.prod(dim=-1) - overlap + _EPS)
    hull = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]) - torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2])
    apart = (a_xyxy[..., :2] + a_xyxy[..., 2:] - b_xyxy[..., :2] - b_xyxy[..., 2:]) / 2
    distance = apart.square().sum(dim=-1) / (hull.square().sum(dim=-1) + _EPS)
    angle = torch.atan(wh_a[..., 0] / wh_a[..., 1]) - torch.atan(wh_b[..., 0] / wh_b[..., 1])
    aspect = 4 / math.pi**2 * angle.square()
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + _EPS)
    return iou - distance - weight * aspect


def detection_loss(spec: ModelSpec, raw: tuple[Tensor, ...], targets: Targets) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch and its parts.

    Args:
        spec: The module's contract; heads with and without objectness are understood.
        raw: What the module returned, float32.
        targets: The batch's objects.
    """
    boxes = decode_boxes(spec, raw)
    with torch.no_grad():
        _, scores = decode(spec, raw)
    points, strides = candidate_points(spec, raw)
    found = assign(boxes.detach(), scores, points, strides, targets.boxes_xyxy, targets.class_ids, targets.valid)
    total = found.scores.sum().clamp(min=1.0)
    keep = ~_in_regions(points, targets) | found.positive
    objectness, classes = score_logits(spec, raw)
    score_loss = torch.zeros(())
    if objectness is not None:
        loss = functional.binary_cross_entropy_with_logits(objectness, found.scores.amax(-1), reduction="none")
        score_loss = score_loss + (loss * keep).sum() / total
    if classes is not None and objectness is None:
        loss = functional.binary_cross_entropy_with_logits(classes, found.scores, reduction="none")
        score_loss = score_loss + (loss * keep[..., None]).sum() / total
    elif classes is not None:
        loss = functional.binary_cross_entropy_with_logits(
            classes[found.positive], (found.scores[found.positive] > 0).to(classes.dtype), reduction="none"
        )
        score_loss = score_loss + loss.sum() / found.positive.sum().clamp(min=1)
    weight = found.scores.amax(-1)[found.positive]
    overlap = complete_iou(boxes[found.positive], found.boxes[found.positive])
    box_loss = ((1 - overlap) * weight).sum() / total
    loss = _BOX_GAIN * box_loss + _SCORE_GAIN * score_loss
    parts = {
        "box": float(box_loss.detach()),
        "score": float(score_loss.detach()),
        "positives": float(found.positive.sum()),
    }
    return loss, parts


def _in_regions(points: Tensor, targets: Targets) -> Tensor:
    """bool (N, M): the candidate's point lies in an ignored region."""
    boxes = targets.boxes_xyxy
    inside = (points > boxes[..., None, :2]).all(-1) & (points < boxes[..., None, 2:]).all(-1)
    return (inside & targets.ignored[..., None]).any(dim=1)
