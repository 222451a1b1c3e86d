"""Read the YOLO data format: a data.yaml, folders of pictures, and a text file of relative boxes per picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedet.evaluation.labelled import Labelled, LabelledSet
from edgedet.extras import require
from edgedet_runtime.errors import InputError
from edgedet_runtime.sources import IMAGE_SUFFIXES

__all__ = ["read_yolo"]


def read_yolo(path: Path, *, split: str = "val", images: Path | None = None) -> LabelledSet:
    """Read a data.yaml.

    Labels of ``…/images/a.jpg`` stand in ``…/labels/a.txt``: class, centre x and y, width, height per line, relative
    to the picture; a longer line is a polygon, whose bounding box counts. A picture without a file has no objects.

    Args:
        path: The yaml file.
        split: Which of its lists to take: val, train or test.
        images: Folder of the pictures, instead of what the file says.

    Raises:
        InputError: The file is no data.yaml, names nothing for `split`, pictures are missing, or a label is
            malformed.
        MissingDependencyError: PyYAML is not installed.
    """
    data = _load(path)
    classes = _names(path, data)
    files = _pictures(path, data, split, images)
    labels = [_label_file(file) for file in files]
    if not any(label.is_file() for label in labels):
        raise InputError(f"{path}: expected label files such as {labels[0]}, found none for {len(files)} pictures")
    pictures = tuple(_labelled(f, lb, len(classes)) for f, lb in zip(files, labels, strict=True))
    return LabelledSet(path, classes, pictures)


def _load(path: Path) -> Mapping[str, Any]:
    require("yaml", extra="eval", purpose="reading a data.yaml")
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (yaml.YAMLError, ValueError) as e:
        raise InputError(f"{path}: expected a data.yaml, got no YAML ({' '.join(str(e).split())[:100]})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a data.yaml with keys such as val and names, got {type(data).__name__}")
    return data


def _names(path: Path, data: Mapping[str, Any]) -> tuple[str, ...]:
    names = data.get("names")
    if isinstance(names, dict):
        try:
            numbered = {int(k): str(v) for k, v in names.items()}
        except (TypeError, ValueError):
            raise InputError(f"{path}: names: expected numbers as keys, got {str(list(names))[:60]}") from None
        if sorted(numbered) != list(range(len(numbered))):
            raise InputError(f"{path}: names: expected the numbers 0..{len(numbered) - 1}, got {sorted(numbered)[:8]}")
        names = [numbered[i] for i in range(len(numbered))]
    if names is None and isinstance(data.get("nc"), int):
        names = [f"class{i}" for i in range(data["nc"])]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: names: expected a list or numbered names, got {str(names)[:60]}")
    nc = data.get("nc", len(names))
    if nc != len(names):
        raise InputError(f"{path}: expected nc and names to agree, got nc {nc} and {len(names)} names")
    return tuple(str(n) for n in names)


def _pictures(path: Path, data: Mapping[str, Any], split: str, images: Path | None) -> list[Path]:
    if images is not None:
        places = [images]
    else:
        entry = data.get(split)
        if not entry:
            known = [k for k in ("train", "val", "test") if data.get(k)]
            raise InputError(f"{path}: expected a key {split!r}, got {', '.join(known) or 'none of train, val, test'}")
        root = _root(path, data.get("path"))
        places = [root / str(e) for e in (entry if isinstance(entry, list) else [entry])]
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        elif place.is_file() and place.suffix == ".txt":
            lines = place.read_text(encoding="utf-8").split("\n")
            files += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            raise InputError(f"{path}: {split}: expected a folder or a .txt list, got {place}, which is none")
    if not files:
        raise InputError(f"{path}: {split}: expected pictures, found none in {', '.join(map(str, places))}")
    return files


def _root(path: Path, entry: object) -> Path:
    """Return the data's root: `path` in the file, relative to the file; the file's folder if that is not there."""
    root = path.parent / str(entry or ".")
    return root if root.is_dir() else path.parent


def _label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _labelled(picture: Path, label: Path, classes: int) -> Labelled:
    rows: list[Sequence[float]] = []
    ids: list[int] = []
    if label.is_file():
        for number, line in enumerate(label.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                class_id, box = _parse(line, f"{label}:{number}", classes)
                ids.append(class_id)
                rows.append(box)
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    return Labelled(picture, boxes, np.array(ids, np.int64), relative=True)


def _parse(line: str, where: str, classes: int) -> tuple[int, Sequence[float]]:
    try:
        values = [float(v) for v in line.split()]
    except ValueError:
        values = []
    if len(values) < 5 or not np.isfinite(values).all() or values[0] != int(values[0]):
        raise InputError(f"{where}: expected class, x, y, width, height, got {line.strip()[:60]!r}")
    if not 0 <= values[0] < classes:
        raise InputError(f"{where}: expected a class 0..{classes - 1}, got {int(values[0])}")
    if len(values) > 6 and len(values) % 2:
        x, y = values[1::2], values[2::2]
        return int(values[0]), (min(x), min(y), max(x), max(y))
    cx, cy, w, h = values[1:5]
    return int(values[0]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
