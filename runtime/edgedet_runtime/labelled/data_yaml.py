"""Read YOLO's data.yaml: class names, and where the pictures of each split lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled.bounded_yaml import Tree, read_yaml
from edgedet_runtime.labelled.faults import Faults, exists
from edgedet_runtime.labelled.values import Labelled, LabelledSet
from edgedet_runtime.labelled.yolo_labels import LabelRules, label_file, read_labels
from edgedet_runtime.pictures import list_folder, looks_like_picture
from edgedet_runtime.short import short
from edgedet_runtime.short_file import DATASET_MB, read_short_text

__all__ = ["read_yolo"]

_MOST_CLASSES = 100_000
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the names in a data.yaml may lie: under its ``path``, beside it, or in the working folder."""

    roots: tuple[Path, ...]

    def find(self, name: str, *, first: Path | None = None) -> Path:
        """Return the first place where `name` is; where it is nowhere, the place where it was looked for first.

        ``../`` at the front is passed over where it leads nowhere: exports are often moved one level up.
        """
        roots = self.roots if first is None else (first, *self.roots)
        names = (name, name[3:]) if name.startswith("../") else (name,)
        candidates = [root / n for n in names for root in roots]
        return next((c for c in candidates if exists(c) or exists(c, folder=True)), candidates[0])


def read_yolo(
    path: Path,
    *,
    split: str | tuple[str, ...] = "val",
    images: Path | None = None,
    limit: int | None = None,
    need_labels: bool,
) -> LabelledSet:
    """Read a data.yaml and the labels of one split.

    Args:
        path: The yaml file.
        split: Which of its lists to take: val, train or test; of several, the first that it has.
        images: Folder of the pictures, instead of what the file says.
        limit: Take only the first pictures.
        need_labels: Whether names and at least one label file must be there.

    Raises:
        InputError: The file is no data.yaml, names nothing for `split`, pictures are missing, or a label is
            malformed.
        MissingDependencyError: PyYAML is not installed.
    """
    data = read_yaml(path)
    classes = _names(path, data, needed=need_labels)
    faults = Faults()
    files = _pictures(path, data, split, images, faults)[:limit]
    labels = [label_file(file) for file in files]
    if need_labels and not any(exists(label) for label in labels):
        faults.check()
        raise InputError(f"{path}: expected label files such as {labels[0]}, found none for {len(files)} pictures")
    rules = LabelRules(len(classes) if classes else None, _keypoint_values(path, data))
    pictures, repeated = [], 0
    for file, label in zip(files, labels, strict=True):
        ids, boxes, again = read_labels(label, rules, faults)
        repeated += again
        boxes_xyxy = np.array(boxes, np.float64).reshape(-1, 4)
        pictures.append(Labelled(file, boxes_xyxy, np.array(ids, np.int64), relative=True))
    faults.check()
    notes = (f"{path}: {repeated} labels say the same as another of their file and count once",) if repeated else ()
    return LabelledSet(path, classes, tuple(pictures), notes=notes)


def _names(path: Path, data: dict[str, Tree], *, needed: bool) -> tuple[str, ...]:
    count = _count(path, data.get("nc"))
    names = data.get("names")
    if isinstance(names, dict):
        names = _numbered(path, names)
    if names is None and count is not None:
        names = [f"class{i}" for i in range(count)]
    if names is None and not needed:
        return ()
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: names: expected a list or numbered names, got {short(names)}")
    texts = tuple(name for name in names if isinstance(name, str))
    if len(texts) != len(names):
        wrong = next(name for name in names if not isinstance(name, str))
        raise InputError(f"{path}: names: expected texts, got {short(wrong)}")
    if count is not None and count != len(texts):
        raise InputError(f"{path}: expected nc and names to agree, got nc {count} and {len(texts)} names")
    return texts


def _count(path: Path, entry: Tree) -> int | None:
    if entry is None:
        return None
    if not isinstance(entry, str) or not entry.isascii() or not entry.isdecimal():
        raise InputError(f"{path}: nc: expected a number of classes, got {short(entry)}")
    if len(entry) > len(str(_MOST_CLASSES)) or not 1 <= int(entry) <= _MOST_CLASSES:
        raise InputError(f"{path}: nc: expected 1..{_MOST_CLASSES} classes, got {short(entry)}")
    return int(entry)


def _numbered(path: Path, names: dict[str, Tree]) -> list[Tree]:
    try:
        by_number = {int(key): value for key, value in names.items()}
    except ValueError:
        raise InputError(f"{path}: names: expected numbers as keys, got {short(list(names))}") from None
    if sorted(by_number) != list(range(len(names))):
        raise InputError(f"{path}: names: expected the numbers 0..{len(names) - 1}, got {short(sorted(by_number))}")
    return [by_number[i] for i in range(len(names))]


def _keypoint_values(path: Path, data: dict[str, Tree]) -> int:
    """Return how many numbers per object describe keypoints: points times values, ``kpt_shape`` in the file."""
    shape = data.get("kpt_shape")
    if shape is None:
        return 0
    sides = shape if isinstance(shape, list) else []
    numbers = [int(s) for s in sides if isinstance(s, str) and s.isascii() and s.isdecimal() and len(s) < 6]
    if len(sides) != 2 or len(numbers) != 2:
        raise InputError(f"{path}: kpt_shape: expected two numbers such as [17, 3], got {short(shape)}")
    return numbers[0] * numbers[1]


def _pictures(
    path: Path, data: dict[str, Tree], split: str | tuple[str, ...], images: Path | None, faults: Faults
) -> list[Path]:
    wanted = (split,) if isinstance(split, str) else split
    key = next((k for k in wanted if data.get(k)), wanted[0])
    entry: Tree = str(images.absolute()) if images is not None else data.get(key)
    if not entry:
        known = ", ".join(k for k in _SPLITS if data.get(k)) or "none of train, val, test"
        raise InputError(f"{path}: expected a key {' or '.join(map(repr, wanted))}, got {known}")
    root = data.get("path")
    if root is not None and not isinstance(root, str):
        raise InputError(f"{path}: path: expected a folder, got {short(root)}")
    here = path.absolute().parent
    roots = [here / root, here, Path.cwd() / root] if root else [here]
    places = _Places(tuple(roots))
    files: list[Path] = []
    for item in entry if isinstance(entry, list) else [entry]:
        if not isinstance(item, str) or not item:
            raise InputError(f"{path}: {key}: expected folders or .txt lists, got {short(item)}")
        files += _listed(path, key, places.find(item), places, faults)
    if not files:
        raise InputError(f"{path}: {key}: expected pictures, found none in {short(entry)}")
    return files


def _listed(path: Path, key: str, place: Path, places: _Places, faults: Faults) -> list[Path]:
    if exists(place, folder=True):
        return list(list_folder(place, recursive=True).pictures)
    if not exists(place):
        shown = place if len(str(place)) <= 250 else short(str(place))
        raise InputError(f"{path}: {key}: expected a folder, a picture or a .txt list, got {shown}, which is none")
    if looks_like_picture(place):
        return [place]
    try:
        lines = read_short_text(place, at_most_mb=DATASET_MB, encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as e:
        raise InputError(f"{place}: expected a list of pictures, a path per line ({short(str(e))})") from None
    files = []
    for number, line in enumerate(lines, 1):
        if name := line.strip():
            file = places.find(name, first=place.parent)
            files.append(file)
            if not exists(file):
                faults.add(place, number, f"expected a picture, got {short(name)}, which is not there")
    return files
