"""Score a detector on labelled pictures, through the same code that runs on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet.evaluation.coco_metrics import CocoFigures, ImageResult, coco_figures
from edgedet_runtime.choices import EngineName, Precision, Trial
from edgedet_runtime.detections import Detections
from edgedet_runtime.detector import Detector
from edgedet_runtime.labelled import Labelled, LabelledSet, load_dataset, match_classes
from edgedet_runtime.pictures import read_image

__all__ = ["EvalResult", "evaluate", "evaluate_file"]

_MAX_CANDIDATES = 1000
"""Detections per picture that are scored; COCO's limit of 100 is the library's, and holds per class."""

OnPicture = Callable[[int, int], None]
"""Called after each picture with how many are done and how many there are."""


@dataclass(frozen=True, slots=True)
class EvalResult:
    """A detector's figures on a data set.

    Attributes:
        data: The set's file.
        engine: Engine that ran.
        precision: Precision that ran.
        pictures: Number of pictures.
        objects: Number of labelled objects.
        classes: Class names of the set, in the order of ``figures.per_class``.
        figures: COCO's figures and operating points.
        conf: Score threshold of the run.
        iou: Suppression threshold of the run.
        max_det: COCO's ``maxDets`` of the run.
        multi_label: Whether a place could hold objects of several classes.
    """

    data: str
    engine: EngineName
    precision: Precision
    pictures: int
    objects: int
    classes: tuple[str, ...]
    figures: CocoFigures
    conf: float
    iou: float
    max_det: int
    multi_label: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: the COCO figures at the top level, ``per_class`` by name."""
        f = self.figures
        names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")
        return {
            **{name: getattr(f, name) for name in names},
            "per_class": dict(zip(self.classes, f.per_class, strict=True)),
            "best_f1": None if f.best is None else dataclasses.asdict(f.best),
            "operating_points": [dataclasses.asdict(p) for p in f.table],
            **{k: getattr(self, k) for k in ("data", "engine", "precision", "pictures", "objects")},
            "settings": {k: getattr(self, k) for k in ("conf", "iou", "max_det", "multi_label")},
        }


def evaluate(
    detector: Detector,
    dataset: LabelledSet,
    *,
    conf: float = 0.001,
    iou: float = 0.65,
    max_det: int = 100,
    multi_label: bool = False,
    progress: OnPicture | None = None,
) -> EvalResult:
    """Run a detector over a data set and score it with COCO's metrics.

    The detector's own thresholds are replaced for the run and put back.

    Args:
        detector: Loaded; its class names must match the set's, see `match_classes`.
        dataset: From `load_dataset`.
        conf: Detections must score above this; low, as average precision looks at all of them.
        iou: Suppression threshold.
        max_det: Detections per picture and class that count (COCO's largest ``maxDets``).
        multi_label: One place may hold objects of several classes.
        progress: Told after each picture.

    Raises:
        InputError: A picture cannot be read, or the classes do not match.
        EngineError: The engine failed.
        MissingDependencyError: pycocotools is not installed.
    """
    to_data = _to_data_ids(dataset, detector.spec.classes)
    dataset.check_pictures()
    before = detector.thresholds
    results: list[ImageResult] = []
    try:
        detector.thresholds = dataclasses.replace(
            before, conf=conf, iou=iou, max_det=max(_MAX_CANDIDATES, max_det), multi_label=multi_label
        )
        for done, picture in enumerate(dataset.pictures, 1):
            image = read_image(picture.path)
            results.append(_result(picture, image.shape[1], image.shape[0], detector(image), to_data))
            if progress is not None:
                progress(done, len(dataset.pictures))
    finally:
        detector.thresholds = before
    return EvalResult(
        data=str(dataset.source),
        engine=detector.engine_name,
        precision=detector.precision,
        pictures=len(results),
        objects=dataset.objects,
        classes=dataset.classes,
        figures=coco_figures(results, len(dataset.classes), max_det=max_det),
        conf=conf,
        iou=iou,
        max_det=max_det,
        multi_label=multi_label,
    )


def evaluate_file(
    model: str | Path,
    data: str | Path | LabelledSet,
    *,
    engine: EngineName | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    trial: Trial | None = None,
    progress: OnPicture | None = None,
) -> EvalResult:
    """Load a bundle or model file and score it with the default settings of `evaluate`.

    Raises:
        EdgedetError: The model or the data cannot be used; see `Detector`, `load_dataset` and `evaluate`.
    """
    dataset = data if isinstance(data, LabelledSet) else load_dataset(data)
    with Detector(model, engine=engine, precision=precision, threads=threads, trial=trial) as detector:
        return evaluate(detector, dataset, progress=progress)


def _to_data_ids(dataset: LabelledSet, model_classes: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the set's class id per model class; -1 for classes that the set does not have."""
    to_data = np.full(len(model_classes), -1, np.int64)
    to_data[match_classes(dataset, model_classes)] = np.arange(len(dataset.classes))
    return to_data


def _result(
    picture: Labelled, width: int, height: int, found: Detections, to_data: npt.NDArray[np.int64]
) -> ImageResult:
    truth = picture.boxes_px(width, height)
    sides = truth[:, 2:] - truth[:, :2]
    ids = to_data[found.class_ids]
    counts = ids >= 0
    return ImageResult(
        width=width,
        height=height,
        truth_xyxy=truth,
        truth_ids=picture.class_ids,
        truth_areas=sides.prod(axis=1) if picture.areas is None else picture.areas,
        truth_crowd=np.zeros(len(truth), np.bool_) if picture.crowd is None else picture.crowd,
        boxes_xyxy=found.boxes_xyxy[counts],
        scores=found.scores[counts],
        class_ids=ids[counts],
    )
