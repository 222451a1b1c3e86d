"""Sparse decoding: from raw head outputs to candidate boxes, decoding only what passes the threshold.

Almost every cell of a head is background. A score is a monotonous function of its logits, so cells are
dropped by comparing raw logits with ``logit(conf)``, one comparison per cell; sigmoid, grid and anchors are
computed for the survivors alone. Of a softmax with background, the best class's lead over background is compared.
The comparison is coarse: it is set a margin below the exact logit, wider than float32's error, and the exact rule
``score > conf`` is applied afterwards to the float32 scores of the survivors. What comes out is therefore what dense
decoding gives.

NaN is an error wherever it can change the result: in any box and objectness value, and in the class logits of every
cell that objectness does not rule out (of every cell, where there is no objectness).

Candidates come in a fixed order: level, anchor, row, column, and with `multi_label` the class. Where a spec keeps the
best of each class only (`top_k`), the class comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import DecodeSpec, LevelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

__all__ = ["BoxDecoder", "Candidates", "Cells", "Outputs", "coarse_logit", "from_cells", "logit", "sigmoid", "softmax"]


Outputs = Mapping[str, "npt.NDArray[np.float32]"]
"""Raw outputs by name."""

# sigmoid's float32 error, 1 ulp of a value near 1, is at most 5e-4 in logits where the logit is at most 9
_MARGIN = 1e-3
_STEEPEST = 9.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes that scored above the threshold, before suppression.

    Attributes:
        boxes_xyxy: float32 (N, 4), input pixels, not clipped.
        scores: float32 (N,), 0..1.
        class_ids: int64 (N,).
        keypoints_xy: float32 (N, K, 2), input pixels, not clipped; None where the head has none.
    """

    boxes_xyxy: Floats
    scores: Floats
    class_ids: Ints
    keypoints_xy: Floats | None = None

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.scores)

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Candidates:
        """Return the candidates at `index`, copied."""
        points = None if self.keypoints_xy is None else self.keypoints_xy[index]
        return Candidates(self.boxes_xyxy[index], self.scores[index], self.class_ids[index], points)

    def best(self, count: int) -> Candidates:
        """Return the `count` best-scored candidates, the earlier ones of equals, in the order that they have here."""
        if len(self) <= count:
            return self
        return self.take(np.sort(np.argsort(-self.scores, kind="stable")[:count]))

    @classmethod
    def concatenate(cls, parts: list[Candidates]) -> Candidates:
        """Join candidates in order."""
        if len(parts) == 1:
            return parts[0]
        points = [p.keypoints_xy for p in parts if p.keypoints_xy is not None]
        return cls(
            np.concatenate([p.boxes_xyxy for p in parts]) if parts else np.zeros((0, 4), np.float32),
            np.concatenate([p.scores for p in parts]) if parts else np.zeros(0, np.float32),
            np.concatenate([p.class_ids for p in parts]) if parts else np.zeros(0, np.int64),
            np.concatenate(points) if points else None,
        )


@dataclass(frozen=True, slots=True)
class Cells:
    """Where survivors sit.

    Attributes:
        level: int64 (N,), index of the level.
        anchor: int64 (N,), index of the anchor within its level.
        row: int64 (N,).
        col: int64 (N,).
        grids_hw: Rows and columns of each level.
    """

    level: Ints
    anchor: Ints
    row: Ints
    col: Ints
    grids_hw: tuple[tuple[int, int], ...]

    @property
    def xy(self) -> Floats:
        """Column and row, float32 (N, 2)."""
        return np.stack((self.col, self.row), axis=1).astype(np.float32)

    def per_level(self, values: Iterable[float | tuple[float, float]]) -> Floats:
        """Return each survivor's value of those that the levels have: float32 (N, 1), or (N, 2) for pairs."""
        table = np.array(list(values), np.float32)
        return table.reshape(len(table), -1)[self.level]

    def anchors_px(self, spec: DecodeSpec) -> Floats:
        """Return each survivor's anchor, width and height in input pixels, float32 (N, 2)."""
        first = np.cumsum([0, *(len(level.anchors_px) for level in spec.levels[:-1])])
        table = np.array([anchor for level in spec.levels for anchor in level.anchors_px], np.float32)
        return table[first[self.level] + self.anchor]


BoxDecoder = Callable[["Floats", Cells, DecodeSpec], "Floats"]
"""Raw box vectors (N, box_channels) of some cells → float32 (N, 4) xyxy in input pixels."""


def sigmoid(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) in float32; -inf gives 0."""
    with np.errstate(over="ignore"):
        return np.asarray(np.float32(1) / (np.float32(1) + np.exp(-x)))


def softmax(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return exp(x) / sum(exp(x)) along the last axis in float32."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def logit(p: float) -> float:
    """Return log(p / (1 - p)); -inf at 0, inf at 1."""
    if p <= 0.0:
        return -math.inf
    return math.inf if p >= 1.0 else math.log(p) - math.log1p(-p)


def coarse_logit(conf: float) -> float:
    """Return a logit that every x with float32 ``sigmoid(x) > conf`` exceeds."""
    return min(logit(conf), _STEEPEST) - _MARGIN


PointDecoder = Callable[["Floats", Cells, DecodeSpec], "Floats"]
"""Raw keypoint vectors (N, 2 K) of some cells → float32 (N, K, 2) in input pixels."""


def from_cells(
    outputs: Outputs,
    spec: DecodeSpec,
    conf: float,
    multi_label: bool,
    boxes: BoxDecoder,
    box_channels: int,
    points: PointDecoder | None = None,
) -> Candidates:
    """Decode heads that predict per cell.

    Args:
        outputs: Raw outputs by name.
        spec: The model's decode rules.
        conf: Scores must exceed this.
        multi_label: Every class above `conf` of a cell makes a candidate, not only the best.
        boxes: The kind's box formula.
        box_channels: Length of a raw box vector.
        points: The kind's formula of keypoints, where a spec of it may have them.

    Raises:
        EngineError: An output has an impossible shape, or contains NaN.
    """
    root = spec.score == "sqrt(obj*cls)"
    threshold = coarse_logit(conf * conf if root else conf)
    levels = [
        _survivors(outputs, level, spec.score, threshold, box_channels, peaks=spec.peaks) for level in spec.levels
    ]
    found = [part for part in levels if part is not None]
    if not found:
        return replace(Candidates.concatenate([]), keypoints_xy=_no_keypoints(outputs, spec))
    some = found[0] if len(found) == 1 else _join(found)
    level = np.arange(len(levels)).repeat([0 if part is None else len(part.cell) for part in levels])
    grids = tuple((rows, cols) for _, _, rows, cols in (outputs[level.boxes].shape for level in spec.levels))

    which = np.arange(len(level))
    if some.logits is None:
        assert some.objectness is not None
        class_ids, scores = np.zeros_like(which), sigmoid(some.objectness)
    else:
        logits, probabilities = some.logits, None
        if spec.score == "softmax":
            probabilities = softmax(logits)[:, 1:]
            logits = logits[:, 1:] - logits[:, :1]
        if multi_label:
            which, class_ids = (logits > threshold).nonzero()
        else:
            class_ids = logits.argmax(axis=1)
        scores = sigmoid(logits[which, class_ids]) if probabilities is None else probabilities[which, class_ids]
        if some.objectness is not None:
            scores = sigmoid(some.objectness)[which] * scores
        scores = np.sqrt(scores) if root else scores
    exact = np.flatnonzero(scores > np.float32(conf))
    row, col = np.divmod(some.cell, np.array([w for _, w in grids])[level])
    cells = Cells(level, some.anchor, row, col, grids)
    xyxy = boxes(some.raw_boxes, cells, spec)
    which, class_ids = which[exact], class_ids[exact].astype(np.int64, copy=False)
    xy = points(_raw_keypoints(outputs, spec, cells), cells, spec)[which] if spec.keypoints and points else None
    every = Candidates(xyxy[which], scores[exact], class_ids, xy)
    if not spec.top_k or len(every) <= spec.top_k:
        return every
    groups = level[which] if spec.top_k_per == "level" else class_ids
    return Candidates.concatenate([every.take(groups == group).best(spec.top_k) for group in np.unique(groups)])


def _no_keypoints(outputs: Outputs, spec: DecodeSpec) -> Floats | None:
    """Return the keypoints of no candidates; None for a head without keypoints."""
    if not spec.keypoints:
        return None
    channels = outputs[spec.keypoints[0]].shape[1]
    return np.zeros((0, channels // (2 * max(len(spec.levels[0].anchors_px), 1)), 2), np.float32)


def _raw_keypoints(outputs: Outputs, spec: DecodeSpec, cells: Cells) -> Floats:
    """Return the raw keypoint vectors of some cells, (N, 2 K)."""
    parts = []
    for number, (name, level) in enumerate(zip(spec.keypoints, spec.levels, strict=True)):
        planes = _planes(outputs, name, max(len(level.anchors_px), 1), None, cells.grids_hw[number])
        _reject_nan(float(planes.min()), name)
        here = cells.level == number
        parts.append(planes[cells.anchor[here], :, cells.row[here] * cells.grids_hw[number][1] + cells.col[here]])
    if len({part.shape[1] for part in parts}) > 1 or parts[0].shape[1] % 2:
        shapes = [outputs[name].shape for name in spec.keypoints]
        raise EngineError(f"outputs: expected x and y of as many keypoints on each level, got {shapes}")
    return np.concatenate(parts)


class _Survivors(NamedTuple):
    """What the coarse threshold leaves of one level, or of all; N cells.

    Attributes:
        anchor: int64 (N,).
        cell: int64 (N,), index within the plane.
        raw_boxes: float32 (N, box_channels).
        logits: float32 (N, classes); None for a head without.
        objectness: float32 (N,), logits; None for a head without.
    """

    anchor: Ints
    cell: Ints
    raw_boxes: Floats
    logits: Floats | None
    objectness: Floats | None


def _join(some: list[_Survivors]) -> _Survivors:
    """Put the survivors of some levels behind each other."""
    logits = [part.logits for part in some if part.logits is not None]
    objectness = [part.objectness for part in some if part.objectness is not None]
    return _Survivors(
        np.concatenate([part.anchor for part in some]),
        np.concatenate([part.cell for part in some]),
        np.concatenate([part.raw_boxes for part in some]),
        np.concatenate(logits) if logits else None,
        np.concatenate(objectness) if objectness else None,
    )


def _survivors(
    outputs: Outputs, level: LevelSpec, score: str, threshold: float, box_channels: int, *, peaks: bool
) -> _Survivors | None:
    """Return the cells of a level whose logits are above `threshold`; None if there are none."""
    anchors = max(len(level.anchors_px), 1)
    raw_boxes = _planes(outputs, level.boxes, anchors, box_channels)
    _reject_nan(float(raw_boxes.min()), level.boxes)
    _, _, h, w = outputs[level.boxes].shape
    obj = cls = None
    if "obj" in score:
        assert level.objectness is not None
        obj = _planes(outputs, level.objectness, anchors, 1, (h, w))[:, 0]
        _reject_nan(float(obj.min()), level.objectness)
    if score != "obj":
        assert level.scores is not None
        cls = _planes(outputs, level.scores, anchors, None, (h, w))

    # one number per cell that bounds its score from above
    if obj is not None:
        bound = obj
    else:
        assert cls is not None
        bound = cls.max(axis=1) if score != "softmax" else _margin(cls, str(level.scores))
        _reject_nan(float(bound.min()), str(level.scores))
    index = np.flatnonzero(bound > threshold)  # far faster than nonzero() in two dimensions
    if not len(index):
        return None
    anchor, cell = np.divmod(index, h * w)
    logits = None if cls is None else cls[anchor, :, cell]
    if cls is not None and logits is not None and peaks:
        logits = _peaks(cls[0].reshape(-1, h, w), cell, logits)
    if logits is not None and obj is not None:
        _reject_nan(float(logits.min()), str(level.scores))
    return _Survivors(anchor, cell, raw_boxes[anchor, :, cell], logits, None if obj is None else obj[anchor, cell])


def _margin(cls: Floats, name: str) -> Floats:
    """Return by how much the best class of each cell leads background, shape (A, H * W).

    Softmax gives a class at most ``sigmoid(its logit - background's)``, so this bounds the score as a logit does.
    """
    if cls.shape[1] < 2:
        raise EngineError(
            f"output {name}: expected background and classes, got {cls.shape[1]} logits: not the spec's model"
        )
    return np.asarray(cls[:, 1:].max(axis=1) - cls[:, 0])


def _peaks(maps: Floats, cell: Ints, logits: Floats) -> Floats:
    """Return the logits of some cells, -inf where a cell around has a higher one; maps (C, H, W), logits (N, C)."""
    _, h, w = maps.shape
    row, col = np.divmod(cell, w)
    highest = logits
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            around = maps[:, np.clip(row + down, 0, h - 1), np.clip(col + right, 0, w - 1)].T
            highest = np.maximum(highest, around)
    return np.where(logits < highest, np.float32(-np.inf), logits)


def _planes(
    outputs: Outputs, name: str, anchors: int, channels: int | None, size_hw: tuple[int, int] | None = None
) -> Floats:
    """View an output (1, A * C, H, W) as (A, C, H * W)."""
    array = outputs[name]
    shape = array.shape
    good = len(shape) == 4 and shape[0] == 1 and shape[1] > 0 and shape[1] % anchors == 0
    good = good and (channels is None or shape[1] == anchors * channels)
    good = good and (size_hw is None or shape[2:] == size_hw)
    if not good:
        want = "A * classes" if channels is None else str(anchors * channels)
        place = "h, w" if size_hw is None else f"{size_hw[0]}, {size_hw[1]}"
        raise EngineError(f"output {name}: expected shape (1, {want}, {place}), got {shape}: not the spec's model")
    return array.reshape(anchors, shape[1] // anchors, shape[2] * shape[3])


def _reject_nan(smallest: float, name: str) -> None:
    """Raise if a minimum, which NaN survives, is NaN."""
    if math.isnan(smallest):
        raise EngineError(f"output {name}: contains NaN; the model file is damaged or overflows on this engine")
