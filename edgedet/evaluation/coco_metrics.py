"""COCO's detection figures, by pycocotools, and what an operator wants to know besides: thresholds.

Average precision, crowd regions and area ranges are the library's (``COCOeval``). The precision, recall and F1 at a
score threshold are counted from its matches at IoU 0.5, over all classes together.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.extras import require

__all__ = ["CocoFigures", "ImageResult", "OperatingPoint", "coco_figures"]

TABLE_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """A picture's labels and detections, in pixels of the picture.

    Attributes:
        width: Columns.
        height: Rows.
        truth_xyxy: float (N, 4).
        truth_ids: int (N,) class ids.
        truth_areas: float (N,) square pixels.
        truth_crowd: bool (N,).
        boxes_xyxy: float (M, 4) detections.
        scores: float (M,).
        class_ids: int (M,), in the same numbering as `truth_ids`.
    """

    width: int
    height: int
    truth_xyxy: npt.NDArray[Any]
    truth_ids: npt.NDArray[Any]
    truth_areas: npt.NDArray[Any]
    truth_crowd: npt.NDArray[Any]
    boxes_xyxy: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    class_ids: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a score threshold gives, at IoU 0.5, all classes together.

    Attributes:
        threshold: Detections that score above this count.
        precision: Share of them that are right; None if there are none.
        recall: Share of the labelled objects that are found; None if there are none.
        f1: Harmonic mean of both; 0 where either is None or both are 0.
        detections: How many detections count.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float
    detections: int


@dataclass(frozen=True, slots=True)
class CocoFigures:
    """COCO's figures, each 0..1; None where there is nothing to score (COCO's -1).

    Attributes:
        ap: Mean over IoU 0.50:0.95 and classes.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ap_small: Of objects below 32² pixels.
        ap_medium: Of objects from 32² to 96² pixels.
        ap_large: Of larger objects.
        ar100: Mean recall with the given number of detections per picture (COCO: 100).
        per_class: AP by class id; None for a class without objects.
        best: Threshold with the best F1, and what it gives; None without labelled objects.
        table: Operating points at 0.05, 0.10 … 0.95.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar100: float | None
    per_class: tuple[float | None, ...]
    best: OperatingPoint | None
    table: tuple[OperatingPoint, ...]


def coco_figures(results: Sequence[ImageResult], num_classes: int, *, max_det: int = 100) -> CocoFigures:
    """Score detections.

    Args:
        results: One per picture.
        num_classes: Number of classes.
        max_det: Best detections per picture and class that count, COCO's largest ``maxDets``.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    require("pycocotools", extra="eval", purpose="scoring with COCO's metrics")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its progress
        truth = _coco(results, num_classes, detections=False)
        detected = _coco(results, num_classes, detections=True)
        scorer = COCOeval(truth, detected, "bbox")
        scorer.params.maxDets = [1, 10, max_det] if max_det > 10 else [1, max_det]
        scorer.evaluate()
        scorer.accumulate()
    precision = scorer.eval["precision"]  # (IoU, recall, class, area, maxDets)
    thresholds = scorer.params.iouThrs
    hits = _hits(scorer)
    return CocoFigures(
        ap=_mean(precision[:, :, :, 0, -1]),
        ap50=_mean(precision[np.isclose(thresholds, 0.5), :, :, 0, -1]),
        ap75=_mean(precision[np.isclose(thresholds, 0.75), :, :, 0, -1]),
        ap_small=_mean(precision[:, :, :, 1, -1]),
        ap_medium=_mean(precision[:, :, :, 2, -1]),
        ap_large=_mean(precision[:, :, :, 3, -1]),
        ar100=_mean(scorer.eval["recall"][:, :, 0, -1]),
        per_class=tuple(_mean(precision[:, :, k, 0, -1]) for k in range(num_classes)),
        best=_best(*hits),
        table=tuple(_point(t, *hits) for t in TABLE_THRESHOLDS),
    )


def _coco(results: Sequence[ImageResult], num_classes: int, *, detections: bool) -> Any:
    """Build pycocotools' data set; ids start at 1, as 0 means "not matched" there."""
    from pycocotools.coco import COCO

    annotations: list[dict[str, Any]] = []
    for image_id, r in enumerate(results, 1):
        boxes, ids = (r.boxes_xyxy, r.class_ids) if detections else (r.truth_xyxy, r.truth_ids)
        for i, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64).reshape(-1, 4).tolist()):
            entry = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": int(ids[i]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0) if detections else float(r.truth_areas[i]),
                "iscrowd": 0 if detections else int(r.truth_crowd[i]),
            }
            if detections:
                entry["score"] = float(r.scores[i])
            annotations.append(entry)
    data = COCO()
    data.dataset = {
        "info": {},
        "images": [{"id": i, "width": r.width, "height": r.height} for i, r in enumerate(results, 1)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": annotations,
    }
    data.createIndex()
    return data


def _mean(values: npt.NDArray[Any]) -> float | None:
    """Mean of what could be scored: the library marks the rest by -1."""
    scored = values[values > -1]
    return float(scored.mean()) if scored.size else None


def _hits(scorer: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], int]:
    """Return scores (falling), whether each is a true positive at IoU 0.5, and the number of labelled objects."""
    scores: list[npt.NDArray[Any]] = [np.zeros(0)]
    right: list[npt.NDArray[Any]] = [np.zeros(0, np.bool_)]
    objects = 0
    at = int(np.flatnonzero(np.isclose(scorer.params.iouThrs, 0.5))[0])
    everything = scorer.params.areaRng[0]
    for entry in scorer.evalImgs:
        if entry is None or entry["aRng"] != everything:
            continue
        counts = ~np.asarray(entry["dtIgnore"], np.bool_)[at]
        scores.append(np.asarray(entry["dtScores"], np.float64)[counts])
        right.append((np.asarray(entry["dtMatches"])[at] > 0)[counts])
        objects += int((~np.asarray(entry["gtIgnore"], np.bool_)).sum())
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-all_scores, kind="stable")
    return all_scores[order], all_right[order], objects


def _point(
    threshold: float, scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], objects: int
) -> OperatingPoint:
    count = int((scores > threshold).sum())
    true = int(right[:count].sum())
    f1 = 2 * true / (count + objects) if count + objects else 0.0
    return OperatingPoint(threshold, true / count if count else None, true / objects if objects else None, f1, count)


def _best(scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], objects: int) -> OperatingPoint | None:
    """Return the point with the best F1; its threshold lies midway between the last score in and the first out."""
    if not objects or not len(scores):
        return None
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(scores) + 1) + objects)
    last_of_tie = np.append(scores[1:] < scores[:-1], True)
    at = int(np.argmax(np.where(last_of_tie, f1, -1.0)))
    below = float(scores[at + 1]) if at + 1 < len(scores) else 0.0
    return _point((float(scores[at]) + below) / 2, scores, right, objects)
