"""Labelled pictures as plain values, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled.faults import exists

__all__ = ["Labelled", "LabelledSet"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and the objects in it.

    Attributes:
        path: The picture's file.
        boxes_xyxy: float64 (N, 4); in pixels, or in 0..1 of the picture's width and height if `relative`.
        class_ids: int64 (N,), indices into the set's classes.
        relative: Whether boxes are fractions of the picture's size.
        areas: float64 (N,) object areas in square pixels, as the labels state them (COCO: of the mask); None: the
            boxes' own.
        crowd: bool (N,) regions that stand for many objects and count neither way; None: there are none.
    """

    path: Path
    boxes_xyxy: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.int64]
    relative: bool = False
    areas: npt.NDArray[np.float64] | None = None
    crowd: npt.NDArray[np.bool_] | None = None

    def boxes_px(self, width: int, height: int) -> npt.NDArray[np.float64]:
        """Return the boxes, xyxy, in pixels of a picture of this size."""
        if not self.relative:
            return self.boxes_xyxy
        return self.boxes_xyxy * np.array([width, height, width, height], np.float64)


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Labelled pictures with their classes.

    Attributes:
        source: File that described the set.
        classes: Class names; class ids index them.
        pictures: In the order of the file, or by name.
        category_ids: Ids of the classes in the file, where it numbers them otherwise (COCO).
        notes: What was left out or passed over, a sentence each.
    """

    source: Path
    classes: tuple[str, ...]
    pictures: tuple[Labelled, ...]
    category_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def check_pictures(self) -> None:
        """Check that all pictures are there, before hours go by.

        Raises:
            InputError: Some are not; the message names the first and counts them.
        """
        missing = [p.path for p in self.pictures if not exists(p.path)]
        if missing:
            count = f"{len(missing)} of its {len(self.pictures)} pictures"
            raise InputError(f"{self.source}: expected {missing[0]}, which is not there; {count} are missing")

    @property
    def objects(self) -> int:
        """Number of labelled objects, crowd regions included."""
        return sum(len(p.class_ids) for p in self.pictures)
