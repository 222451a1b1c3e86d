"""Where the candidates' columns stand in a foreign file's outputs.

Seen in the field: one tensor of all candidates (1, M, columns) or transposed; boxes and scores apart; one tensor per
level, as (1, A, H, W, columns), (1, H, W, A, columns), (1, A * columns, H, W) or (1, A * H * W, columns). A layout
turns any of them into one array (A, H, W, columns) per level. Which rows belong to which level, and whether anchors
or cells run faster, is measured: change a level, or a cell, and see what moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.foreign.tail import Tail

__all__ = ["Layout", "Piece", "find_layouts"]

Array = npt.NDArray[Any]
Form = Literal["rows", "rows-transposed", "AHWN", "HWAN", "ANHW", "CHW", "HWC"]
_TO_AHWN: Mapping[Form, tuple[int, ...]] = {
    "rows": (2, 0, 1, 3),
    "rows-transposed": (2, 0, 1, 3),
    "AHWN": (0, 1, 2, 3),
    "HWAN": (2, 0, 1, 3),
    "ANHW": (0, 2, 3, 1),
    "CHW": (0, 2, 3, 1),
    "HWC": (0, 2, 3, 1),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Some columns of one level's candidates.

    Attributes:
        output: Name of the file's output.
        form: Order of its dimensions, batch left out.
        start: First row, for the row forms.
        anchor_major: Whether the anchor runs slowest within the level, for the row forms.
    """

    output: str
    form: Form
    start: int = 0
    anchor_major: bool = True

    def read(self, outputs: Mapping[str, Array], level: HeadLevel, anchors: int) -> Array:
        """Return this piece as (A, H, W, columns)."""
        value = _without_batch(outputs[self.output])
        h, w = level.height, level.width
        if self.form in ("rows", "rows-transposed"):
            rows = _as_rows(value) if self.form == "rows" else _as_rows(value).T
            part = rows[self.start : self.start + anchors * level.cells]
            if self.anchor_major:
                return part.reshape(anchors, h, w, -1)
            value = part.reshape(h, w, anchors, -1)
        elif self.form in ("CHW", "HWC"):
            chw = value.transpose(2, 0, 1) if self.form == "HWC" else value
            value = chw.reshape(anchors, -1, h, w)
        return np.transpose(value, _TO_AHWN[self.form])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is.

    Attributes:
        anchors: Anchors per cell; 1 for anchor-free heads.
        columns: Columns per candidate.
        pieces: Per level, the pieces whose columns stand side by side.
    """

    anchors: int
    columns: int
    pieces: tuple[tuple[Piece, ...], ...]

    def read(self, outputs: Mapping[str, Array], levels: Sequence[HeadLevel]) -> list[Array]:
        """Return the candidates of each level, (A, H, W, columns), views where possible."""
        return [
            np.concatenate([p.read(outputs, level, self.anchors) for p in pieces], axis=-1)
            for level, pieces in zip(levels, self.pieces, strict=True)
        ]


def find_layouts(tail: Tail, *, anchors: int | None = None) -> list[Layout]:
    """Return the layouts that fit a file's outputs, the likeliest first.

    Args:
        tail: The file's tail.
        anchors: Anchors per cell where known; only needed if the outputs do not tell.
    """
    outputs = tail.run(tail.random(seed=1))
    found: list[Layout] = []
    for count in _anchor_counts(tail.levels, anchors):
        layouts = (_row_layout(tail, outputs, count), _level_layout(tail, outputs, count))
        found += [layout for layout in layouts if layout is not None and layout.columns in _widths(tail, count)]
    return found


def _anchor_counts(levels: Sequence[HeadLevel], anchors: int | None) -> list[int]:
    if any(len(level.convs) > 1 for level in levels):
        return [1]
    if anchors is not None:
        return [anchors]
    channels = {level.convs[0].channels for level in levels}
    return [a for a in (3, 5, 2, 4, 6, 9, 1) if all(c % a == 0 and c // a >= 6 for c in channels)]


def _widths(tail: Tail, anchors: int) -> set[int]:
    """Return the numbers of columns that a head can give: with objectness, without, or with a constant one."""
    total = sum(conv.channels for conv in tail.levels[0].convs)
    if len(tail.levels[0].convs) == 1:
        return {total // anchors, total // anchors - 1}
    classes = [total - 4, total - 5]
    for conv in tail.levels[0].convs:  # a distribution over bins is wider than its four sides
        if conv.channels > 4 and conv.channels % 4 == 0:
            classes += [total - conv.channels, total - conv.channels - 1]
    return {4 + c for c in classes if c > 0} | {5 + c for c in classes if c > 0}


def _without_batch(value: Array) -> Array:
    return value[0] if value.ndim > 2 and value.shape[0] == 1 else value


def _as_rows(value: Array) -> Array:
    """Drop dimensions of size 1 down to two; one dimension alone becomes a column."""
    squeezed = np.squeeze(value)
    return squeezed.reshape(-1, 1) if squeezed.ndim == 1 else squeezed


def _row_layout(tail: Tail, outputs: Mapping[str, Array], anchors: int) -> Layout | None:
    rows = anchors * sum(level.cells for level in tail.levels)
    forms: dict[str, Form] = {}
    widths: dict[str, int] = {}
    for name, value in outputs.items():
        matrix = _as_rows(_without_batch(value))
        if matrix.ndim != 2 or rows not in matrix.shape:
            continue
        forms[name] = "rows" if matrix.shape[0] == rows else "rows-transposed"
        widths[name] = matrix.size // rows
    if not forms:
        return None
    widest = max(widths, key=lambda n: widths[n])
    names = [widest] if widths[widest] in _widths(tail, anchors) else list(forms)
    names.sort(key=lambda n: widths[n] != 4)
    placed = _measure_rows(tail, Piece(names[-1], forms[names[-1]]), anchors)
    if placed is None:
        return None
    pieces = tuple(tuple(Piece(n, forms[n], start, major) for n in names) for start, major in placed)
    return Layout(anchors, sum(widths[n] for n in names), pieces)


def _measure_rows(tail: Tail, piece: Piece, anchors: int) -> list[tuple[int, bool]] | None:
    """Return each level's first row and whether anchors run slowest, by changing one level, then one cell."""

    def changed(level: int, cell: bool) -> npt.NDArray[np.int64]:
        raw = tail.random(seed=1)
        for array in raw[level]:
            part = array[:, 0, 0] if cell else array
            part += 0.5
        rows = [_as_rows(_without_batch(o[piece.output])) for o in (tail.run(tail.random(seed=1)), tail.run(raw))]
        different = rows[0] != rows[1]
        return np.flatnonzero(different.any(axis=1 if piece.form == "rows" else 0))

    placed = []
    for index, level in enumerate(tail.levels):
        moved = changed(index, cell=False)
        if len(moved) != anchors * level.cells or moved[-1] - moved[0] + 1 != len(moved):
            return None
        first = changed(index, cell=True) - moved[0]
        if np.array_equal(first, np.arange(anchors) * level.cells):
            placed.append((int(moved[0]), True))
        elif np.array_equal(first, np.arange(anchors)):
            placed.append((int(moved[0]), False))
        else:
            return None
    return placed


def _level_layout(tail: Tail, outputs: Mapping[str, Array], anchors: int) -> Layout | None:
    pieces: list[tuple[Piece, ...]] = []
    widths: set[int] = set()
    for level in tail.levels:
        here: list[Piece] = []
        width = 0
        for name, value in outputs.items():
            piece = _level_piece(name, _without_batch(value), level, anchors)
            if piece is not None:
                here.append(piece)
                width += value.size // (anchors * level.cells)
        if not here:
            return None
        pieces.append(tuple(here))
        widths.add(width)
    return Layout(anchors, widths.pop(), tuple(pieces)) if len(widths) == 1 else None


def _level_piece(name: str, value: Array, level: HeadLevel, anchors: int) -> Piece | None:
    h, w = level.height, level.width
    total = sum(conv.channels for conv in level.convs)
    if value.ndim == 4:
        forms: dict[Form, tuple[int, ...]] = {
            "AHWN": (anchors, h, w, value.shape[3]),
            "HWAN": (h, w, anchors, value.shape[3]),
            "ANHW": (anchors, value.shape[1], h, w),
        }
        return next((Piece(name, form) for form, shape in forms.items() if value.shape == shape), None)
    if value.ndim == 3 and value.shape[0] % anchors == 0 and value.shape[1:] == (h, w):
        return Piece(name, "CHW")
    if value.ndim == 3 and value.shape[2] % anchors == 0 and value.shape[:2] == (h, w):
        return Piece(name, "HWC")
    if value.ndim == 2 and value.shape[0] == anchors * level.cells and value.shape[1] * anchors <= total + 1:
        return Piece(name, "rows")
    return None
