"""Labelled pictures: COCO json and YOLO data.yaml, read once for training, calibration, evaluation and comparison."""

from __future__ import annotations

from edgedet_runtime.labelled.classes import match_classes
from edgedet_runtime.labelled.open_dataset import DATASET_SUFFIXES, load_dataset
from edgedet_runtime.labelled.values import Labelled, LabelledSet

__all__ = ["DATASET_SUFFIXES", "Labelled", "LabelledSet", "load_dataset", "match_classes"]
