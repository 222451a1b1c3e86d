"""Open a labelled data set, and bring its classes and a model's together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedet.evaluation.coco_json import read_coco
from edgedet.evaluation.labelled import Labelled, LabelledSet
from edgedet.evaluation.yolo_yaml import read_yolo
from edgedet_runtime.errors import InputError

__all__ = ["load_dataset", "match_classes"]

_SAME = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""Pascal VOC's and darknet's spellings of COCO's classes."""


def load_dataset(
    data: str | Path,
    *,
    images: str | Path | None = None,
    split: str = "val",
    classes: Sequence[str] | None = None,
    limit: int | None = None,
) -> LabelledSet:
    """Open a data set.

    Args:
        data: A COCO json, or a YOLO data.yaml.
        images: Folder of the pictures, if not where the file says or where they usually are.
        split: Which list of a data.yaml to take.
        classes: Keep only these classes of the set, by name; other objects are left out.
        limit: Take only the first pictures.

    Raises:
        InputError: The file cannot be used; the message says why.
    """
    path = Path(data)
    folder = None if images is None else Path(images)
    if not path.is_file():
        raise InputError(f"data: expected a COCO json or a data.yaml, got {path}, which is no file")
    if path.suffix.lower() == ".json":
        found = read_coco(path, images=folder)
    elif path.suffix.lower() in (".yaml", ".yml"):
        found = read_yolo(path, split=split, images=folder)
    else:
        raise InputError(f"data: expected a .json or .yaml file, got {path.name}")
    if limit is not None:
        if limit < 1:
            raise InputError(f"limit: expected a positive number of pictures, got {limit}")
        found = replace(found, pictures=found.pictures[:limit])
    return found if classes is None else _subset(found, classes)


def match_classes(data: LabelledSet, model_classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Find each class of a data set among a model's.

    By name where all names of the set are known to the model, whatever the case and separators; by position where
    none is and the numbers agree (a model whose classes are only numbered).

    Returns:
        int64, model class id per class of the set.

    Raises:
        InputError: Neither works.
    """
    known = {_key(name): i for i, name in reversed(list(enumerate(model_classes)))}
    wanted = [known.get(_key(name)) for name in data.classes]
    missing = [name for name, at in zip(data.classes, wanted, strict=True) if at is None]
    if not missing:
        return np.array(wanted, np.int64)
    if len(missing) == len(wanted) == len(model_classes):
        return np.arange(len(wanted), dtype=np.int64)
    raise InputError(
        f"classes: expected the model to know the data set's {len(wanted)} classes, but of its {len(model_classes)}"
        f" none is called {', '.join(missing[:4])}{', …' if len(missing) > 4 else ''}; score a subset with --classes"
    )


def _key(name: str) -> str:
    plain = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return _SAME.get(plain, plain)


def _subset(data: LabelledSet, classes: Sequence[str]) -> LabelledSet:
    index = {_key(name): i for i, name in enumerate(data.classes)}
    unknown = [name for name in classes if _key(name) not in index]
    if unknown or not classes:
        known = ", ".join(data.classes[:6]) + (", …" if len(data.classes) > 6 else "")
        raise InputError(f"classes: expected names of the data set ({known}), got {', '.join(unknown) or 'none'}")
    kept = [index[_key(name)] for name in classes]
    new_id = np.full(len(data.classes), -1, np.int64)
    new_id[kept] = np.arange(len(kept))
    ids = tuple(data.category_ids[i] for i in kept) if data.category_ids else ()
    pictures = tuple(_filtered(p, new_id) for p in data.pictures)
    return LabelledSet(data.source, tuple(data.classes[i] for i in kept), pictures, ids)


def _filtered(picture: Labelled, new_id: npt.NDArray[np.int64]) -> Labelled:
    ids = new_id[picture.class_ids]
    keep = ids >= 0
    return replace(
        picture,
        boxes_xyxy=picture.boxes_xyxy[keep],
        class_ids=ids[keep],
        areas=None if picture.areas is None else picture.areas[keep],
        crowd=None if picture.crowd is None else picture.crowd[keep],
    )
