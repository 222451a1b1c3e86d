"""Read YOLO's label files: an object per line, in shares of the picture's width and height.

``class x y width height`` gives the box's center and sides; ``class x1 y1 x2 y2 x3 y3 …`` a polygon, whose bounding box
counts; with keypoints, the box comes first and the points after it are passed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.labelled.faults import Faults, exists
from edgedet_runtime.short import short
from edgedet_runtime.short_file import read_short_text

__all__ = ["LabelRules", "label_file", "read_labels"]

Box = tuple[float, float, float, float]

_SLACK = 0.01
"""How far beyond 0..1 a coordinate may lie: labels are rounded, and polygons run along the border."""


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What a label file may hold.

    Attributes:
        classes: Number of classes; None: not known, any whole number of 0 or more.
        keypoint_values: Numbers that follow each box for its keypoints; 0: none.
    """

    classes: int | None
    keypoint_values: int = 0


def label_file(picture: Path) -> Path:
    """Return where a picture's labels stand: the last folder ``images`` of its path read as ``labels``, as .txt."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_labels(file: Path, rules: LabelRules, faults: Faults) -> tuple[list[int], list[Box], int]:
    """Read a label file; one that is not there, or is empty, has no objects.

    Args:
        file: The file.
        rules: What may stand in it.
        faults: Where wrong lines go.

    Returns:
        Class ids; boxes as x0, y0, x1, y1 in 0..1 of the picture; the number of lines that said the same as an
        earlier one and were left out.
    """
    if not exists(file):
        return [], [], 0
    try:
        lines = read_short_text(file).splitlines()
    except (OSError, ValueError) as e:
        faults.add(file, "labels", f"expected a text file, got one that cannot be read ({short(str(e))})")
        return [], [], 0
    found: dict[tuple[int, Box], None] = {}
    objects = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _parse(line, rules)
        except ValueError as e:
            faults.add(file, number, str(e))
            continue
        objects += 1
        found[entry] = None
    return [class_id for class_id, _ in found], [box for _, box in found], objects - len(found)


def _parse(line: str, rules: LabelRules) -> tuple[int, Box]:
    got = f"got {short(line.strip())}"
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        hint = "; save it without a byte order mark" if line.startswith("\ufeff") else ""
        hint = "; put spaces instead of commas" if "," in line else hint
        raise ValueError(f"expected class, x, y, width, height with spaces between, {got}{hint}") from None
    polygon = rules.keypoint_values == 0 and len(values) >= 7 and len(values) % 2 == 1
    if not polygon and len(values) not in (5, 5 + rules.keypoint_values):
        raise ValueError(f"expected class, x, y, width, height, or class and three or more points, {got}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"expected class, x, y, width, height as finite numbers, {got}")
    if values[0] != int(values[0]):
        raise ValueError(f"expected class, x, y, width, height with a whole number as class, {got}")
    if values[0] < 0 or (rules.classes is not None and values[0] >= rules.classes):
        known = "of 0 or more" if rules.classes is None else f"0..{rules.classes - 1}"
        raise ValueError(f"expected a class {known}, got {short(int(values[0]))}")
    places = values[1:] if polygon else values[1:5]
    if not polygon and min(places[2:]) <= 0:
        raise ValueError(f"expected a width and height above 0, {got}")
    if min(places) < -_SLACK or max(places) > 1 + _SLACK:
        hint = "; are they pixels?" if max(places) > 2 else ""
        raise ValueError(f"expected coordinates in 0..1 of the picture, {got}{hint}")
    if polygon:
        x, y = places[0::2], places[1::2]
        if min(x) == max(x) or min(y) == max(y):
            raise ValueError(f"expected a polygon with a width and height above 0, {got}")
        return int(values[0]), (min(x), min(y), max(x), max(y))
    cx, cy, w, h = places
    return int(values[0]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
