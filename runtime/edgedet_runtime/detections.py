"""Detections: what a detector returns for one picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Box", "Detections"]


@dataclass(frozen=True, slots=True)
class Box:
    """One detected object.

    Attributes:
        xyxy: Left, top, right, bottom in pixels of the image as given.
        score: 0..1.
        class_id: Index into the model's classes.
        name: The class's name.
    """

    xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Detections:
    """All objects found in one picture, best first.

    Attributes:
        boxes_xyxy: float32 (N, 4), pixels of the image as given, clipped to it.
        scores: float32 (N,), 0..1, descending.
        class_ids: int64 (N,).
        names: Class names of the model, indexed by class id.

    The arrays belong to this object; none is a view into a buffer that the detector reuses.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Validate shapes."""
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4):
            raise ValueError(f"boxes_xyxy: expected shape ({n}, 4), got {self.boxes_xyxy.shape}")
        if self.class_ids.shape != (n,):
            raise ValueError(f"class_ids: expected shape ({n},), got {self.class_ids.shape}")

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)

    def __iter__(self) -> Iterator[Box]:
        """Yield the objects one by one, best first."""
        for xyxy, score, class_id in zip(
            self.boxes_xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True
        ):
            yield Box((xyxy[0], xyxy[1], xyxy[2], xyxy[3]), score, class_id, self.names[class_id])
