"""Read COCO's annotation format: one JSON file, boxes as x, y, width, height in pixels.

Crowd regions are kept as such. Boxes without an area, masks in run lengths and objects listed twice are passed over
with a word. Everything else that does not fit together is a fault, named by its place in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled.coco_boxes import Annotation, Passed, read_annotation
from edgedet_runtime.labelled.faults import Faults, exists
from edgedet_runtime.labelled.values import Labelled, LabelledSet
from edgedet_runtime.short import short
from edgedet_runtime.short_file import DATASET_MB, read_short_bytes

__all__ = ["read_coco"]

_Entry = Mapping[str, Any]


def read_coco(path: Path, *, images: Path | None = None, limit: int | None = None, need_labels: bool) -> LabelledSet:
    """Read a COCO json.

    Args:
        path: The annotation file.
        images: Folder of the pictures; else they are looked for beside the file and in the folders around it.
        limit: Take only the first pictures.
        need_labels: Whether categories and annotations must be there.

    Raises:
        InputError: The file is no COCO json, is empty, refers to things that it does not have, or the pictures are
            not found.
    """
    data = _load(path)
    if not need_labels:
        data = {"categories": [], "annotations": [], **data}
        if not data["annotations"] and isinstance(data.get("images"), list):
            data["images"] = [{"id": at, **e} if isinstance(e, dict) else e for at, e in enumerate(data["images"])]
    faults = Faults()
    categories = _by_id(path, data, "categories", "name", faults)
    pictures = _by_id(path, data, "images", "file_name", faults)
    faults.check()
    if not pictures or (need_labels and not categories):
        empty = "images" if not pictures else "categories"
        raise InputError(f"{path}: expected at least one entry under {empty!r}, got none")
    index = {number: at for at, number in enumerate(sorted(categories))}
    passed = Passed()
    objects: dict[int | str, dict[Annotation, None]] = {number: {} for number in pictures}
    for at, entry in enumerate(_entries(path, data, "annotations")):
        try:
            picture, found = read_annotation(entry, pictures, index, passed)
        except ValueError as e:
            faults.add(path, f"annotations[{at}]", str(e))
            continue
        if found is not None:
            passed.repeated += found in objects[picture]
            objects[picture][found] = None
    faults.check()
    taken = list(pictures.items())[:limit]
    folder = _folder(path, images, taken[0][1]["file_name"])
    return LabelledSet(
        path,
        tuple(categories[number]["name"] for number in index),
        tuple(_labelled(folder / entry["file_name"], list(objects[number])) for number, entry in taken),
        tuple(index),
        notes=passed.notes(path),
    )


def _load(path: Path) -> _Entry:
    try:
        data = json.loads(read_short_bytes(path, at_most_mb=DATASET_MB))
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError) as e:  # ValueError: no JSON, no UTF-8, a number of thousands of digits
        raise InputError(f"{path}: expected a COCO json, got something else ({short(str(e))})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a COCO json (an object), got a {type(data).__name__}")
    return data


def _entries(path: Path, data: _Entry, key: str) -> list[Any]:
    entries = data.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a COCO json with a list {key!r}, got keys {short(list(data))}")
    return entries


def _by_id(path: Path, data: _Entry, key: str, text: str, faults: Faults) -> dict[Any, _Entry]:
    """Return the entries of a list by their ids, in the order of the file; each has a text under `text`."""
    found: dict[Any, _Entry] = {}
    for at, entry in enumerate(_entries(path, data, key)):
        where = f"{key}[{at}]"
        missing = [n for n in ("id", text) if not isinstance(entry, dict) or n not in entry]
        if missing:
            faults.add(path, where, f"expected the field {missing[0]!r}, got {short(entry)}")
            continue
        number, name = entry["id"], entry[text]
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        allowed = int if key == "categories" else (int, str)
        if isinstance(number, bool) or not isinstance(number, allowed):
            faults.add(path, where, f"expected a number as id, got {short(number)}")
        elif not isinstance(name, str) or not name:
            faults.add(path, where, f"expected a text as {text}, got {short(name)}")
        elif number in found:
            faults.add(path, where, f"expected an id of its own, got {short(number)} for the second time")
        else:
            found[number] = entry
    return found


def _labelled(picture: Path, objects: Sequence[Annotation]) -> Labelled:
    xywh = np.array([a.xywh for a in objects], np.float64).reshape(-1, 4)
    return Labelled(
        picture,
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        np.array([a.class_id for a in objects], np.int64),
        areas=np.array([a.area for a in objects], np.float64),
        crowd=np.array([a.crowd for a in objects], np.bool_),
    )


def _folder(path: Path, images: Path | None, first: str) -> Path:
    if images is not None:
        if not exists(images, folder=True):
            raise InputError(f"images: expected a folder, got {images}, which is none")
        if not exists(images / first):
            raise InputError(f"images: expected {short(first)} in {images}, as {path.name} says, but it is not there")
        return images
    for folder in _places(path):
        if exists(folder / first):
            return folder
    raise InputError(
        f"{path}: its first picture {short(first)} is neither beside it nor in an images folder; use `images`"
    )


def _places(path: Path) -> Iterator[Path]:
    """Yield where pictures usually lie: beside the file, in images/, in a folder named as the split, one level up."""
    split = path.stem.removeprefix("instances_")
    for root in (path.parent, path.parent.parent):
        for middle in (root, root / "images"):
            yield middle
            yield middle / split
    yield from sorted(p for p in path.parent.glob("*") if exists(p, folder=True))
    yield from sorted(p for p in path.parent.glob("*/*") if exists(p, folder=True))
