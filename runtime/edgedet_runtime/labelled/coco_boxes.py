"""Read one annotation of a COCO json: its picture, its class and its box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet_runtime.short import short

__all__ = ["Annotation", "Passed", "read_annotation"]

_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Annotation:
    """An object.

    Attributes:
        class_id: Index of its class.
        xywh: Left, top, width, height in pixels.
        area: Its area in square pixels, as the file says.
        crowd: Whether it stands for many objects.
    """

    class_id: int
    xywh: _Box
    area: float
    crowd: bool


@dataclass(slots=True)
class Passed:
    """What was passed over.

    Attributes:
        run_lengths: Masks in run lengths; their boxes count.
        empty: Boxes without an area, left out.
        repeated: Objects that say the same as an earlier one of their picture, left out.
    """

    run_lengths: int = 0
    empty: int = 0
    repeated: int = 0

    def notes(self, path: Path) -> tuple[str, ...]:
        """Return a sentence for each kind that there was."""
        sentences = (
            (self.run_lengths, "masks in run lengths (RLE) are not read; their boxes count"),
            (self.empty, "boxes without an area are left out"),
            (self.repeated, "objects say the same as another of their picture and count once"),
        )
        return tuple(f"{path}: {count} {sentence}" for count, sentence in sentences if count)


def read_annotation(
    entry: object, pictures: Mapping[Any, Mapping[str, Any]], index: Mapping[Any, int], passed: Passed
) -> tuple[int | str, Annotation | None]:
    """Check an annotation.

    Args:
        entry: As the file has it.
        pictures: The file's pictures by id.
        index: Class index by category id.
        passed: Counts what is passed over.

    Returns:
        The picture's id and the object; None for one that is left out.

    Raises:
        ValueError: It is malformed; the message says what was expected and got.
    """
    fields = entry if isinstance(entry, dict) else {}
    run_lengths = isinstance(fields.get("segmentation"), dict)
    missing = [name for name in ("image_id", "category_id", "bbox") if name not in fields]
    if missing == ["bbox"]:
        fields = {**fields, "bbox": _around(fields.get("segmentation"))}
    elif missing:
        raise ValueError(f"expected the field {missing[0]!r}, got {short(entry)}")
    picture, category = fields["image_id"], fields["category_id"]
    if not _known(picture, pictures) or not _known(category, index):
        raise ValueError(f"expected a known image and category, got image {short(picture)}, category {short(category)}")
    xywh = _box(fields["bbox"])
    area, crowd = fields.get("area", xywh[2] * xywh[3]), fields.get("iscrowd", 0)
    if not _number(area) or area < 0:
        raise ValueError(f"expected an area of 0 or more, got {short(area)}")
    if not isinstance(crowd, (int, float)) or crowd not in (0, 1):
        raise ValueError(f"expected iscrowd 0 or 1, got {short(crowd)}")
    passed.run_lengths += run_lengths
    if min(xywh[2:]) == 0:
        passed.empty += 1
        return picture, None
    _check_inside(xywh, pictures[picture])
    return picture, Annotation(index[category], xywh, float(area), bool(crowd))


def _known(key: object, known: Mapping[Any, Any]) -> bool:
    return isinstance(key, (int, float, str)) and not isinstance(key, bool) and key in known


def _number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -1e12 < value < 1e12  # false for NaN


def _box(value: object) -> _Box:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_number, value)):
        raise ValueError(f"expected a bbox of four numbers (x, y, width, height), got {short(value)}")
    x, y, width, height = map(float, value)
    if width < 0 or height < 0:
        raise ValueError(f"expected a bbox with finite sides ≥ 0, got {short(value)}")
    return x, y, width, height


def _around(polygons: object) -> list[float]:
    """Return the box around an object's polygons, lists of x, y, x, y, …"""
    lists = polygons if isinstance(polygons, list) else []
    numbers = [v for p in lists if isinstance(p, list) and len(p) % 2 == 0 for v in p if _number(v)]
    if not numbers or len(numbers) != sum(len(p) if isinstance(p, list) else 1 for p in lists):
        raise ValueError("expected the field 'bbox', or polygons of x, y, x, y, …, got neither")
    x, y = numbers[0::2], numbers[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _check_inside(xywh: _Box, picture: Mapping[str, Any]) -> None:
    """Refuse a box that lies wholly beyond its picture, where the file says how large that is."""
    sides = picture.get("width"), picture.get("height")
    if not all(_number(side) and side > 0 for side in sides if side is not None):
        raise ValueError(f"expected a picture with width and height above 0, got {short(list(sides))}")
    for start, length, side in zip(xywh[:2], xywh[2:], sides, strict=True):
        if start + length <= 0 or (side is not None and start >= side):
            raise ValueError(f"expected a bbox that meets its picture of {short(list(sides))}, got {short(list(xywh))}")
