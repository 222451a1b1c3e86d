"""Accuracy on labelled pictures: data sets, COCO's figures, operating points."""

from __future__ import annotations

from edgedet.evaluation.coco_metrics import CocoFigures, ImageResult, OperatingPoint, coco_figures
from edgedet.evaluation.evaluate import EvalResult, evaluate, evaluate_file
from edgedet_runtime.labelled import Labelled, LabelledSet, load_dataset, match_classes

__all__ = [
    "CocoFigures",
    "EvalResult",
    "ImageResult",
    "Labelled",
    "LabelledSet",
    "OperatingPoint",
    "coco_figures",
    "evaluate",
    "evaluate_file",
    "load_dataset",
    "match_classes",
]
