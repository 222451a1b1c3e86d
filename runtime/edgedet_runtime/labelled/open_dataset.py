"""Open a labelled data set, whatever its format: what training, calibration, evaluation and comparison read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled.classes import subset
from edgedet_runtime.labelled.coco_json import read_coco
from edgedet_runtime.labelled.data_yaml import read_yolo
from edgedet_runtime.labelled.faults import exists
from edgedet_runtime.labelled.values import LabelledSet

__all__ = ["DATASET_SUFFIXES", "load_dataset"]

_COCO, _YOLO = frozenset({".json"}), frozenset({".yaml", ".yml"})

DATASET_SUFFIXES = _COCO | _YOLO
"""Endings of the files that describe a labelled set."""


def load_dataset(
    data: str | Path,
    *,
    images: str | Path | None = None,
    split: str | tuple[str, ...] = "val",
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    need_labels: bool = True,
) -> LabelledSet:
    """Open a data set and check all of its labels.

    Args:
        data: A COCO json, or a YOLO data.yaml.
        images: Folder of the pictures, if not where the file says or where they usually are.
        split: Which list of a data.yaml to take; of several, the first that it has.
        classes: Keep only these classes of the set, by name; other objects are left out.
        limit: Take only the first pictures.
        need_labels: Whether the set must have classes and labels; calibration needs pictures alone. Labels that
            are there are checked all the same.

    Raises:
        InputError: The file cannot be used; the message says why, names file and line of the first fault and says
            how many there are.
        MissingDependencyError: PyYAML is not installed, and the file is a data.yaml.
    """
    path = Path(data)
    folder = None if images is None else Path(images)
    if not exists(path):
        raise InputError(f"data: expected a COCO json or a data.yaml, got {path}, which is no file")
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected a positive number of pictures, got {limit}")
    suffix = path.suffix.lower()
    if suffix in _COCO:
        found = read_coco(path, images=folder, limit=limit, need_labels=need_labels)
    elif suffix in _YOLO:
        found = read_yolo(path, split=split, images=folder, limit=limit, need_labels=need_labels)
    else:
        raise InputError(f"data: expected a .json or .yaml file, got {path.name}")
    return found if classes is None else subset(found, classes)
