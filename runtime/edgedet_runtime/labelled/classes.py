"""Bring the classes of a labelled set and those of a model together, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled.values import Labelled, LabelledSet

__all__ = ["match_classes", "subset"]

_SAME = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""Pascal VOC's and darknet's spellings of COCO's classes."""


def match_classes(data: LabelledSet, model_classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Find each class of a data set among a model's.

    By name where all names of the set are known to the model, whatever the case and separators; by position where
    none is and the numbers agree (a model whose classes are only numbered).

    Returns:
        int64, model class id per class of the set.

    Raises:
        InputError: Neither works, or two classes of the set have one name.
    """
    keys = [_key(name) for name in data.classes]
    twice = [name for name, key in zip(data.classes, keys, strict=True) if keys.count(key) > 1]
    if twice:
        raise InputError(f"{data.source}: expected a name of its own for each class, got {', '.join(twice[:4])}")
    known = {_key(name): i for i, name in reversed(list(enumerate(model_classes)))}
    wanted = [known.get(_key(name)) for name in data.classes]
    missing = [name for name, at in zip(data.classes, wanted, strict=True) if at is None]
    if not missing:
        return np.array(wanted, np.int64)
    if len(missing) == len(wanted) == len(model_classes):
        return np.arange(len(wanted), dtype=np.int64)
    raise InputError(
        f"classes: expected the model to know the data set's {len(wanted)} classes, but of its {len(model_classes)}"
        f" none is called {', '.join(missing[:4])}{', …' if len(missing) > 4 else ''}; score a subset with `classes`"
    )


def _key(name: str) -> str:
    plain = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return _SAME.get(plain, plain)


def subset(data: LabelledSet, classes: Sequence[str]) -> LabelledSet:
    """Return a set with some of its classes, by name; objects of the others are left out.

    Raises:
        InputError: A name is none of the set's.
    """
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
    return replace(data, classes=tuple(data.classes[i] for i in kept), pictures=pictures, category_ids=ids)


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
