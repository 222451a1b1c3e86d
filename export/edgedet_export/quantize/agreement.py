"""How well two networks agree on what they detect: the measure where no labels are.

The detections of the reference are taken for the truth, and the other network is scored against them as COCO scores
against labels: average precision over IoU 0.5, 0.55 … 0.95, here over all classes together because a class may have a
handful of objects only. 1 means the same boxes in the same order of confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgedet_runtime.candidates import Candidates
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.overlap import box_iou
from edgedet_runtime.pairing import pair_greedily
from edgedet_runtime.selection import select
from edgedet_runtime.spec import ModelSpec

__all__ = ["Agreement", "compare_detections", "detect", "reference_conf"]

Floats = npt.NDArray[np.float32]

_IOUS = np.arange(0.5, 1.0, 0.05)
_LOW_CONF = 0.005


@dataclass(frozen=True, slots=True)
class Agreement:
    """The outcome of a comparison.

    Attributes:
        agreement: 0..1, see the module.
        conf: Detections of the reference above this score were the truth.
        reference: Their number.
        matched: How many of them the other network found above `conf` too, same class, IoU ≥ 0.5.
        extra: Detections of the other network above `conf` that match none.
        score_shift: Mean of its score minus the reference's, over matches at any score.
        score_spread: Standard deviation of that difference.
        threshold: Score above which the other network gives as many detections as the reference above `conf`; of all
            such scores the nearest to `conf`.
    """

    agreement: float
    conf: float
    reference: int
    matched: int
    extra: int
    score_shift: float
    score_spread: float
    threshold: float


def detect(outputs: Mapping[str, Floats], spec: ModelSpec, *, conf: float = _LOW_CONF) -> Candidates:
    """Decode and suppress raw outputs; boxes are in input pixels.

    Args:
        outputs: Raw outputs by name.
        spec: The model's contract.
        conf: Lowest score; low, because average precision looks at the whole order.
    """
    raw = [outputs[name] for name in spec.decode.output_names]
    found = decode_outputs(raw, spec.decode, conf=conf, multi_label=spec.thresholds.multi_label)
    return select(found, spec.decode, replace(spec.thresholds, max_det=100, class_agnostic=False))


def reference_conf(reference: Sequence[Candidates], spec: ModelSpec) -> float:
    """Return the score above which the reference's detections count: the model's default, or lower.

    A network that finds next to nothing at its default (untrained, or the pictures are of other things) is compared
    on its best, one per picture on average.
    """
    scores = np.sort(np.concatenate([r.scores for r in reference]))[::-1]
    wanted = len(reference)
    if int((scores > spec.thresholds.conf).sum()) >= wanted or not len(scores):
        return spec.thresholds.conf
    return float(np.nextafter(scores[min(wanted, len(scores)) - 1], np.float32(0)))


def compare_detections(reference: Sequence[Candidates], other: Sequence[Candidates], conf: float) -> Agreement:
    """Compare detections, picture by picture.

    Args:
        reference: Of the reference network, from `detect`.
        other: Of the other network.
        conf: From `reference_conf`.
    """
    truth = [r.take(r.scores > conf) for r in reference]
    total = sum(len(t) for t in truth)
    if total == 0:
        extra = sum(int((o.scores > conf).sum()) for o in other)
        return Agreement(1.0 if extra == 0 else 0.0, conf, 0, 0, extra, 0.0, 0.0, conf)
    scores = np.concatenate([o.scores for o in other])
    hits = [_matches(t, o) for t, o in zip(truth, other, strict=True)]
    order = np.argsort(-scores, kind="stable")
    found = np.concatenate([h[0] for h in hits])[order]
    precision = [_average_precision(found[:, i], total) for i in range(len(_IOUS))]
    shifts = np.concatenate([h[1] for h in hits])
    above = scores[order] > conf
    matched = int((found[:, 0] & above).sum())
    threshold = _threshold(scores[order], total, conf)
    return Agreement(
        agreement=float(np.mean(precision)),
        conf=conf,
        reference=total,
        matched=matched,
        extra=int(above.sum()) - matched,
        score_shift=float(shifts.mean()) if len(shifts) else 0.0,
        score_spread=float(shifts.std()) if len(shifts) else 0.0,
        threshold=threshold,
    )


def _threshold(ranked: Floats, count: int, conf: float) -> float:
    """Return the score nearest to `conf` that exactly `count` of the scores, highest first, exceed."""
    if len(ranked) < count:
        return _LOW_CONF
    lowest = float(ranked[count]) if len(ranked) > count else 0.0
    return min(max(conf, lowest), float(np.nextafter(ranked[count - 1], np.float32(0))))


def _matches(truth: Candidates, other: Candidates) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Match greedily, best score first.

    Returns:
        Per detection and IoU threshold whether it matched, bool (N, 10); score differences of matches at IoU 0.5.
    """
    hit = np.zeros((len(other), len(_IOUS)), np.bool_)
    shifts: list[float] = []
    overlap = box_iou(_at_least_a_pixel(other.boxes_xyxy), _at_least_a_pixel(truth.boxes_xyxy))
    same_class = other.class_ids[:, None] == truth.class_ids[None]
    for column, limit in enumerate(_IOUS):
        pairs = pair_greedily(overlap * (same_class & (overlap >= limit)))
        hit[[row for row, _ in pairs], column] = True
        if column == 0:
            shifts = [float(other.scores[row] - truth.scores[best]) for row, best in pairs]
    return hit, np.array(shifts, np.float32)


def _at_least_a_pixel(boxes_xyxy: Floats) -> Floats:
    """Return boxes widened to one pixel; one without area would not even overlap itself."""
    center = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    half = np.maximum((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2, np.float32(0.5))
    return np.concatenate([center - half, center + half], axis=1)


def _average_precision(found: npt.NDArray[np.bool_], total: int) -> float:
    """Return COCO's average precision: interpolated, at 101 recalls."""
    hits = np.cumsum(found)
    precision = hits / np.arange(1, len(found) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(hits * 100, np.arange(101) * total)  # in whole numbers: at 0 to 100 hundredths of the total
    return float(np.append(precision, 0.0)[first].mean())  # 0 at a recall that is never reached
