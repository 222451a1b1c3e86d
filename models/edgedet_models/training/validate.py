"""Validation on labelled pictures: recall, false boxes, and the threshold that a model should ship with.

Pictures go through the runtime's own letterbox and suppression, so that a figure here means what it means on a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edgedet_models.decode import decode
from edgedet_models.detector import DetectorModule
from edgedet_models.training.dataset import DataSource, to_input
from edgedet_runtime.detections import Detections
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.nms import nms
from edgedet_runtime.overlap import box_iou
from edgedet_runtime.pairing import pair_greedily

__all__ = ["Scored", "choose_threshold", "detect", "score_picture", "score_source"]

_LOWEST = 0.02
_MATCH_IOU = 0.5
_SUPPRESS_IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Detections of a set of pictures, matched with its objects.

    Attributes:
        scores: float32 (D,), of all detections.
        class_ids: int64 (D,).
        owner: int64 (D,), the object that a detection found (index into the arrays below), -1 if none.
        excused: bool (D,), on an ignored object: neither right nor wrong.
        on_empty: bool (D,), in a picture without objects.
        object_class: int64 (G,).
        object_px: float32 (G,), long side at the network's input, in pixels.
        object_ignored: bool (G,).
        pictures: Number of pictures.
        empty_pictures: Number of those without objects.
    """

    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    owner: NDArray[np.int64]
    excused: NDArray[np.bool_]
    on_empty: NDArray[np.bool_]
    object_class: NDArray[np.int64]
    object_px: NDArray[np.float32]
    object_ignored: NDArray[np.bool_]
    pictures: int
    empty_pictures: int

    def found(self, threshold: float) -> NDArray[np.bool_]:
        """bool (G,): objects that a detection above `threshold` found."""
        result = np.zeros(len(self.object_class), dtype=bool)
        result[self.owner[(self.owner >= 0) & (self.scores > threshold)]] = True
        return result

    def recall(self, threshold: float, class_id: int | None = None, px: tuple[float, float] = (0, 1e9)) -> float:
        """Return the share of objects found, of a class and of a range of sizes; NaN if there are none."""
        of = ~self.object_ignored & (self.object_px >= px[0]) & (self.object_px < px[1])
        if class_id is not None:
            of &= self.object_class == class_id
        return float(self.found(threshold)[of].mean()) if of.any() else float("nan")

    def precision(self, threshold: float) -> float:
        """Return the share of detections above `threshold` that found an object."""
        counted = (self.scores > threshold) & ~self.excused
        return float((self.owner[counted] >= 0).mean()) if counted.any() else 1.0

    def false_per_empty(self, threshold: float) -> float:
        """Return the mean number of detections above `threshold` in pictures without objects."""
        return float((self.on_empty & (self.scores > threshold)).sum()) / max(1, self.empty_pictures)


@torch.no_grad()
def detect(model: DetectorModule, image: NDArray[np.uint8], size: int, *, conf: float = _LOWEST) -> Detections:
    """Run a module on one picture (H, W, 3 uint8 BGR) at `size` x `size`, as the runtime would."""
    letterbox = Letterbox.fit((image.shape[0], image.shape[1]), (size, size), model.spec.resize)
    raw = model(to_input([letterbox.apply(np.ascontiguousarray(image))], model.spec.input))
    boxes, scores = (t[0].numpy() for t in decode(model.spec, tuple(t.float() for t in raw)))
    class_ids = scores.argmax(axis=1)
    best = scores.max(axis=1)
    keep = np.flatnonzero(best > conf)
    boxes, best, class_ids = letterbox.to_image(boxes[keep]), best[keep], class_ids[keep].astype(np.int64)
    kept = nms(boxes, best, class_ids, iou=_SUPPRESS_IOU, max_det=300)
    return Detections(boxes[kept], best[kept], class_ids[kept], model.spec.classes)


def score_picture(
    found: Detections, boxes_xyxy: NDArray[np.float32], class_ids: NDArray[np.int64], ignored: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Match detections with objects, best first, one to one, same class and IoU >= 0.5.

    Returns:
        Per detection the object's index or -1, and whether it lies on an ignored object.
    """
    owner = np.full(len(found), -1, dtype=np.int64)
    excused = np.zeros(len(found), dtype=bool)
    if not len(found) or not len(class_ids):
        return owner, excused
    iou = box_iou(found.boxes_xyxy, boxes_xyxy)
    excused = (iou * ignored).max(axis=1) > 0.2
    fits = (iou >= _MATCH_IOU) & (found.class_ids[:, None] == class_ids[None, :])
    for i, j in pair_greedily(iou * fits):
        owner[i], excused[i] = j, bool(ignored[j])
    return owner, excused


def score_source(model: DetectorModule, source: DataSource, indices: Iterable[int], size: int) -> Scored:
    """Detect in pictures of a source and match."""
    columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in Scored.__dataclass_fields__}
    objects = pictures = empty = 0
    for index in indices:
        image, class_ids, outlines = source[index]
        height, width = image.shape[:2]
        low, high = outlines.min(axis=1, initial=1e9), outlines.max(axis=1, initial=-1e9)
        limit = np.array([width, height])
        boxes = np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1).astype(np.float32)
        sides = boxes[:, 2:] - boxes[:, :2]
        visible = sides.prod(axis=1) / np.maximum((high - low).prod(axis=1), 1e-6)
        contrast = np.array([_contrast(image, box) for box in boxes])
        scale = size / max(height, width)
        ignored = (visible < 0.6) | (sides.min(axis=1, initial=1e9) * scale < 5) | (contrast < 6)
        found = detect(model, image, size)
        owner, excused = score_picture(found, boxes, class_ids, ignored)
        columns["scores"].append(found.scores)
        columns["class_ids"].append(found.class_ids)
        columns["owner"].append(np.where(owner >= 0, owner + objects, -1))
        columns["excused"].append(excused)
        columns["on_empty"].append(np.full(len(found), not len(class_ids)))
        columns["object_class"].append(class_ids)
        columns["object_px"].append((sides.max(axis=1, initial=0) * scale).astype(np.float32))
        columns["object_ignored"].append(ignored)
        objects += len(class_ids)
        pictures += 1
        empty += not len(class_ids)
    joined = {n: np.concatenate(v) for n, v in columns.items() if v}
    return Scored(pictures=pictures, empty_pictures=empty, **joined)


def _contrast(image: NDArray[np.uint8], box: NDArray[np.float32]) -> float:
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    piece = image[y0:y1, x0:x1]
    return float(cv2.meanStdDev(piece)[1].mean()) if piece.size else 0.0


def choose_threshold(scored: Scored, *, false_per_empty: float, grid: Sequence[float] | None = None) -> float:
    """Return the threshold of the best F1 among those with few enough false boxes in empty pictures.

    Args:
        scored: Validation pictures, never those that figures are reported on.
        false_per_empty: The most false boxes per empty picture.
        grid: Thresholds to try.
    """
    best, best_f1 = 0.9, -1.0
    for threshold in grid if grid is not None else np.arange(0.05, 0.9, 0.01):
        if scored.false_per_empty(float(threshold)) > false_per_empty:
            continue
        recall, precision = scored.recall(float(threshold)), scored.precision(float(threshold))
        f1 = 2 * recall * precision / max(1e-9, recall + precision)
        if f1 > best_f1:
            best, best_f1 = float(threshold), f1
    return round(best, 2)
