"""Read COCO's annotation format: one JSON file, boxes as x, y, width, height in pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.evaluation.labelled import Labelled, LabelledSet
from edgedet_runtime.errors import InputError

__all__ = ["read_coco"]


def read_coco(path: Path, *, images: Path | None = None) -> LabelledSet:
    """Read a COCO json.

    Args:
        path: The annotation file.
        images: Folder of the pictures; else they are looked for beside the file and in the folders around it.

    Raises:
        InputError: The file is no COCO json, is empty, refers to things that it does not have, or the pictures are
            not found.
    """
    data = _load(path)
    categories = sorted(_entries(data, "categories", path, ("id", "name")), key=lambda c: c["id"])
    index = {c["id"]: i for i, c in enumerate(categories)}
    entries = _entries(data, "images", path, ("id", "file_name"))
    if not entries or not categories:
        empty = "images" if not entries else "categories"
        raise InputError(f"{path}: expected at least one entry under {empty!r}, got none")
    by_image: dict[Any, list[Mapping[str, Any]]] = {entry["id"]: [] for entry in entries}
    for a in _entries(data, "annotations", path, ("image_id", "category_id", "bbox")):
        if a["image_id"] not in by_image or a["category_id"] not in index:
            raise InputError(
                f"{path}: annotation {a.get('id', '?')}: expected a known image and category, got image"
                f" {a['image_id']!r}, category {a['category_id']!r}"
            )
        by_image[a["image_id"]].append(a)
    folder = _folder(path, images, str(entries[0]["file_name"]))
    pictures = tuple(_labelled(path, folder, entry, by_image[entry["id"]], index) for entry in entries)
    names = tuple(str(c["name"]) for c in categories)
    return LabelledSet(path, names, pictures, tuple(int(c["id"]) for c in categories))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from None
    except ValueError as e:  # covers UnicodeDecodeError and JSONDecodeError
        raise InputError(f"{path}: expected a COCO json, got something else ({e})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a COCO json (an object), got a {type(data).__name__}")
    return data


def _entries(data: Mapping[str, Any], key: str, path: Path, needed: Sequence[str]) -> list[Mapping[str, Any]]:
    entries = data.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a COCO json with a list {key!r}, got keys {', '.join(map(str, data))}")
    for number, entry in enumerate(entries):
        missing = [n for n in needed if not isinstance(entry, dict) or n not in entry]
        if missing:
            raise InputError(f"{path}: {key}[{number}]: expected the field {missing[0]!r}, got {str(entry)[:60]}")
    return entries


def _labelled(
    path: Path,
    folder: Path,
    entry: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    index: Mapping[Any, int],
) -> Labelled:
    try:
        xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
        areas = np.array([a.get("area", w * h) for a, (_, _, w, h) in zip(annotations, xywh, strict=True)], np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{path}: image {entry['file_name']}: expected boxes of four numbers (x, y, width, height)"
        ) from None
    if len(xywh) and (not np.isfinite(xywh).all() or (xywh[:, 2:] < 0).any()):
        raise InputError(f"{path}: image {entry['file_name']}: expected boxes with finite sides ≥ 0")
    return Labelled(
        folder / str(entry["file_name"]),
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        np.array([index[a["category_id"]] for a in annotations], np.int64),
        areas=areas,
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in annotations], np.bool_),
    )


def _folder(path: Path, images: Path | None, first: str) -> Path:
    if images is not None:
        if not images.is_dir():
            raise InputError(f"images: expected a folder, got {images}, which is none")
        if not (images / first).is_file():
            raise InputError(f"images: expected {first} in {images}, as {path.name} says, but it is not there")
        return images
    for folder in _places(path):
        if (folder / first).is_file():
            return folder
    raise InputError(f"{path}: its first picture {first} is neither beside it nor in an images folder; use --images")


def _places(path: Path) -> Iterator[Path]:
    """Yield where pictures usually lie: beside the file, in images/, in a folder named as the split, one level up."""
    split = path.stem.removeprefix("instances_")
    roots = (path.parent, path.parent.parent)
    for root in roots:
        yield root
        for middle in (root, root / "images"):
            yield middle
            yield middle / split
    for root in roots[:1]:
        yield from sorted(p for p in root.glob("*") if p.is_dir())
        yield from sorted(p for p in root.glob("*/*") if p.is_dir())
