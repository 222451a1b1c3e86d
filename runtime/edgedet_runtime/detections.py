"""Detections: what a detector returns for one picture.

Examples:
    >>> import numpy as np
    >>> from edgedet_runtime import Detections
    >>> found = Detections(
    ...     boxes_xyxy=np.array([[10, 20, 30, 60], [0, 0, 8, 4]], np.float32),
    ...     scores=np.array([0.75, 0.5], np.float32),
    ...     class_ids=np.array([1, 0]),
    ...     names=("cat", "dog"),
    ... )
    >>> len(found)
    2
    >>> found[0]
    Box(xyxy=(10.0, 20.0, 30.0, 60.0), score=0.75, class_id=1, name='dog')
    >>> [box.name for box in found[found.scores < 0.6]]
    ['cat']
    >>> found[::-1] == found[[1, 0]]
    True
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgedet_runtime.errors import InputError, MissingDependencyError
from edgedet_runtime.from_json import from_json

if TYPE_CHECKING:
    import numpy.typing as npt
    import supervision

__all__ = ["Box", "Detections"]

_LARGEST_UNNAMED = 99_999
"""Largest class id that `Detections.from_dict` takes where the class names are not given."""

_LARGEST_COORDINATE = float(np.finfo(np.float32).max)


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


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """All objects found in one picture, best first.

    A sequence of `Box`: it has a length, can be iterated, and an integer index gives one `Box`. A slice, a boolean mask
    or an array of indices gives the `Detections` that were chosen, in the order asked for.

    Attributes:
        boxes_xyxy: float32 (N, 4), pixels of the image as given, clipped to it.
        scores: float32 (N,), 0..1, descending.
        class_ids: int64 (N,).
        names: Class names of the model, indexed by class id.
        keypoints_xy: float32 (N, K, 2), points of each object, pixels of the image as given, not clipped; None
            where the model has none.

    The arrays belong to this object; none is a view into a buffer that the detector reuses.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    keypoints_xy: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Validate shapes."""
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4):
            raise ValueError(f"boxes_xyxy: expected shape ({n}, 4), got {self.boxes_xyxy.shape}")
        if self.class_ids.shape != (n,):
            raise ValueError(f"class_ids: expected shape ({n},), got {self.class_ids.shape}")
        points = self.keypoints_xy
        if points is not None and (points.ndim != 3 or points.shape[::2] != (n, 2)):
            raise ValueError(f"keypoints_xy: expected shape ({n}, K, 2) or None, got {points.shape}")

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)

    def __iter__(self) -> Iterator[Box]:
        """Yield the objects one by one, best first."""
        for xyxy, score, class_id in zip(
            self.boxes_xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True
        ):
            yield Box((xyxy[0], xyxy[1], xyxy[2], xyxy[3]), score, class_id, self.names[class_id])

    def __eq__(self, other: object) -> bool:
        """Return whether both hold the same objects in the same order, with the same class names.

        Unlike numpy's ``==``, the answer is one bool. Numbers are compared exactly, as `numpy.array_equal` does: the
        dtype does not matter, NaN equals nothing. Detections are not hashable, since arrays can change.

        Examples:
            >>> import numpy as np
            >>> found = Detections(np.zeros((1, 4)), np.ones(1), np.zeros(1, int), ("cat",))
            >>> found == Detections(np.zeros((1, 4)), np.ones(1), np.zeros(1, int), ("cat",))
            True
            >>> found == found[:0]
            False
        """
        if not isinstance(other, Detections):
            return NotImplemented
        return (
            self.names == other.names
            and np.array_equal(self.boxes_xyxy, other.boxes_xyxy)
            and np.array_equal(self.scores, other.scores)
            and np.array_equal(self.class_ids, other.class_ids)
            and _same_points(self.keypoints_xy, other.keypoints_xy)
        )

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Box: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Detections: ...

    def __getitem__(self, index: int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[Any]) -> Box | Detections:
        """Return one object, or the detections that a slice, mask or array of indices chooses, copied.

        Args:
            index: An integer (negative from the end), a slice, booleans (N,), or integers (M,).

        Raises:
            IndexError: An index is out of range, a mask has another length than these detections, or the index is of
                another kind.

        Examples:
            >>> import numpy as np
            >>> found = Detections(np.zeros((3, 4)), np.array([0.9, 0.5, 0.3]), np.array([0, 1, 0]), ("cat", "dog"))
            >>> found[-1].score
            0.3
            >>> found[:2].scores.tolist()
            [0.9, 0.5]
            >>> found[found.class_ids == 0].scores.tolist()
            [0.9, 0.3]
            >>> found[[2, 0]].scores.tolist()
            [0.3, 0.9]
        """
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            (box,) = self._take(np.array([self._position(int(index))]))
            return box
        return self._take(self._chosen(np.asarray(index)))

    def _position(self, index: int) -> int:
        """Return an index from the end as one from the start."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"detections: expected an index below {len(self)}, got {index}")
        return index % len(self)

    def _chosen(self, index: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a mask or an array of indices once it is known to fit."""
        if index.shape == (0,) and index.dtype.kind == "f":  # what numpy makes of an empty list
            index = index.astype(np.int64)
        if index.dtype.kind not in "biu" or index.ndim != 1:
            raise IndexError(
                "detections: expected an integer, a slice, or integers or booleans of shape (N,),"
                f" got {index.dtype} of shape {index.shape}"
            )
        if index.dtype.kind == "b" and len(index) != len(self):
            raise IndexError(f"detections: expected a mask of {len(self)} booleans, got {len(index)}")
        if index.dtype.kind != "b" and len(index):
            for extreme in (index.min(), index.max()):
                self._position(int(extreme))
        return index

    def _take(self, index: npt.NDArray[Any]) -> Detections:
        points = None if self.keypoints_xy is None else self.keypoints_xy[index]
        return Detections(self.boxes_xyxy[index], self.scores[index], self.class_ids[index], self.names, points)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data: ``detections`` with the keys of ``edgedet detect --json``, and the class names.

        An object with keypoints has ``keypoints_xy`` as well, a list of x and y.
        Numbers are not rounded, so that `from_dict` gives equal detections.

        Examples:
            >>> import numpy as np
            >>> found = Detections(np.array([[1, 2, 3, 4]]), np.array([0.5]), np.array([1]), ("cat", "dog"))
            >>> found.to_dict()["detections"]
            [{'class_id': 1, 'class_name': 'dog', 'score': 0.5, 'box_xyxy': [1.0, 2.0, 3.0, 4.0]}]
            >>> Detections.from_dict(found.to_dict()) == found
            True
        """
        entries: list[dict[str, Any]] = [
            {
                "class_id": box.class_id,
                "class_name": box.name,
                "score": box.score,
                "box_xyxy": [float(v) for v in box.xyxy],
            }
            for box in self
        ]
        if self.keypoints_xy is not None:
            for entry, points in zip(entries, self.keypoints_xy.tolist(), strict=True):
                entry["keypoints_xy"] = points
        return {"names": list(self.names), "detections": entries}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, names: Sequence[str] | None = None) -> Detections:
        """Read what `to_dict` gave, or one image of ``edgedet detect --json``.

        Args:
            data: An object with ``detections``; ``names`` may stand beside them, other entries are passed over.
            names: Class names of the model, where `data` has none. Where neither has them, they come from the
                detections, and a class that none of them names is ``class<id>``.

        Raises:
            InputError: The data does not have this form; the message says where.

        Examples:
            >>> dog = {"class_id": 1, "class_name": "dog", "score": 0.5, "box_xyxy": [1, 2, 3, 4]}
            >>> Detections.from_dict({"detections": [dog]}).names
            ('class0', 'dog')
        """
        try:
            entries = from_json(_Entries, data, at="detections").detections
            given = from_json(_Names, data, at="detections").names if "names" in data else names
        except ValueError as e:
            raise InputError(str(e)) from None
        known = _names_of(entries) if given is None else tuple(given)
        for i, entry in enumerate(entries):
            entry.check(known, f"detections[{i}]")
        return cls(
            np.array([entry.box_xyxy for entry in entries], np.float32).reshape(-1, 4),
            np.array([entry.score for entry in entries], np.float32),
            np.array([entry.class_id for entry in entries], np.int64),
            known,
            _points_of(entries),
        )

    def to_supervision(self) -> supervision.Detections:
        """Return a copy as ``supervision.Detections``, for that package's trackers, zones and annotators.

        Class names are in ``data["class_name"]``, as supervision's own readers put them.

        Raises:
            MissingDependencyError: The package supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise MissingDependencyError("supervision", "supervision", "Detections.to_supervision") from None
        return supervision.Detections(
            xyxy=self.boxes_xyxy.astype(np.float32),
            confidence=self.scores.astype(np.float32),
            class_id=self.class_ids.astype(np.int64),
            data={"class_name": np.array([box.name for box in self], dtype=np.str_)},
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One object as JSON has it."""

    class_id: int
    class_name: str
    score: float
    box_xyxy: tuple[float, float, float, float]
    keypoints_xy: tuple[tuple[float, float], ...] | None = None

    def check(self, names: tuple[str, ...], at: str) -> None:
        """Refuse what no detector gives.

        Raises:
            InputError: A class that `names` does not have, or a number that is not finite or out of range.
        """
        if not 0 <= self.class_id < len(names):
            raise InputError(f"{at}.class_id: expected 0..{len(names) - 1}, got {self.class_id}")
        if self.class_name != names[self.class_id]:
            raise InputError(
                f"{at}.class_name: expected {names[self.class_id]!r:.80}, the name of class {self.class_id},"
                f" got {self.class_name!r:.80}"
            )
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"{at}.score: expected a number from 0 to 1, got {self.score}")
        if not all(math.isfinite(v) and abs(v) <= _LARGEST_COORDINATE for v in self.box_xyxy):
            raise InputError(f"{at}.box_xyxy: expected four finite numbers, got {list(self.box_xyxy)}")
        if not all(math.isfinite(v) and abs(v) <= _LARGEST_COORDINATE for xy in self.keypoints_xy or () for v in xy):
            raise InputError(f"{at}.keypoints_xy: expected pairs of finite numbers")


@dataclass(frozen=True, slots=True)
class _Entries:
    detections: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class _Names:
    names: tuple[str, ...]


def _same_points(a: npt.NDArray[np.float32] | None, b: npt.NDArray[np.float32] | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def _points_of(entries: Sequence[_Entry]) -> npt.NDArray[np.float32] | None:
    """Return the keypoints of all objects, or None where none has any.

    Raises:
        InputError: Objects have different numbers of keypoints.
    """
    counts = {None if entry.keypoints_xy is None else len(entry.keypoints_xy) for entry in entries}
    if len(counts) > 1:
        raise InputError("detections: expected as many keypoints_xy for each object, got different numbers")
    if counts <= {None}:
        return None
    return np.array([entry.keypoints_xy for entry in entries], np.float32).reshape(len(entries), -1, 2)


def _names_of(entries: Sequence[_Entry]) -> tuple[str, ...]:
    """Return class names as far as the detections tell them."""
    told = {entry.class_id: entry.class_name for entry in entries}
    largest = max(told, default=-1)
    if largest > _LARGEST_UNNAMED:
        raise InputError(
            f"detections: expected class ids up to {_LARGEST_UNNAMED} where the class names are not given,"
            f" got {largest}; pass names"
        )
    return tuple(told.get(i, f"class{i}") for i in range(largest + 1))
