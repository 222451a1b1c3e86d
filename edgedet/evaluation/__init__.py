"""Accuracy on labelled pictures: data sets, COCO's figures, operating points."""

from __future__ import annotations

from edgedet.evaluation.coco_metrics import CocoFigures, ImageResult, OperatingPoint, coco_figures
from edgedet.evaluation.dataset import load_dataset, match_classes
from edgedet.evaluation.evaluate import EvalResult, evaluate, evaluate_file
from edgedet.evaluation.labelled import Labelled, LabelledSet

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
