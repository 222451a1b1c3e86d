"""How a spec of the user's names a part of a tensor in an ONNX file, and the nodes that bring it to a raw output.

``cls_8`` is a whole tensor, ``head[0:80]`` its channels 0 to 79, ``output[0:1600, 4:84]`` rows 0 to 1599 of a tensor of
rows and the columns 4 to 83 of those. Any tensor of the graph may be named, not outputs alone. A tensor (1, C, H, W) is
taken as it is; (1, H, W, C), rows (1, H * W, C) and columns (1, C, H * W) become (1, C, H, W).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors
from edgedet_export.graph.values import dims
from edgedet_runtime.errors import ModelFileError

__all__ = ["Selector", "append_raw"]

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Selector:
    """A part of a tensor.

    Attributes:
        tensor: Its name in the file.
        rows: First row and the one after the last; None for all.
        channels: First channel and the one after the last; None for all.
    """

    tensor: str
    rows: Range | None = None
    channels: Range | None = None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read ``name``, ``name[a:b]`` or ``name[r:s, a:b]``.

        Raises:
            ModelFileError: The brackets hold something else.
        """
        found = re.fullmatch(r"(.+?)\[([\d:,\s]*)\]", text)
        if found is None:
            return cls(text)
        ranges = [re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", part) for part in found.group(2).split(",")]
        pairs = [(int(r.group(1)), int(r.group(2))) for r in ranges if r is not None]
        if len(pairs) != len(ranges) or not 1 <= len(pairs) <= 2 or any(a >= b for a, b in pairs):
            raise ModelFileError(
                f"spec: {text}: expected name[first:end] or name[first:end, first:end], got other brackets"
            )
        return cls(found.group(1), pairs[0] if len(pairs) == 2 else None, pairs[-1])


def append_raw(
    graph: ir.Graph, new: NewTensors, value: ir.Value, part: Selector, *, name: str, cells_hw: tuple[int, int] | None
) -> ir.Value:
    """Append the nodes that make a raw output of a part of a tensor.

    Args:
        graph: Where they go.
        new: Names for them.
        value: The tensor.
        part: Which part of it.
        name: The output's name.
        cells_hw: Rows and columns of the level's grid; None for queries, whose rows stay rows.

    Raises:
        ModelFileError: The tensor's shape does not fit the grid or the ranges.
    """
    size = dims(value)
    if size is None or len(size) not in (3, 4) or any(d is None for d in size) or size[0] != 1:
        raise ModelFileError(f"spec: {part.tensor}: expected a tensor of 3 or 4 known dimensions, batch 1, got {size}")
    known = [int(d or 0) for d in size]

    def node(op: str, inputs: list[ir.Value], perm: Sequence[int] | None = None) -> ir.Value:
        made = new.value(f"{name}_{op.lower()}")
        graph.append(ir.node(op, inputs, {} if perm is None else {"perm": list(perm)}, outputs=[made]))
        return made

    def sliced(source: ir.Value, axis: int, limits: Range | None) -> ir.Value:
        if limits is None or limits == (0, known[axis]):
            return source
        if limits[1] > known[axis]:
            raise ModelFileError(f"spec: {part.tensor}: expected at most {known[axis]} along axis {axis}, got {limits}")
        known[axis] = limits[1] - limits[0]
        numbers = [
            new.constant(f"{name}_{what}", np.array([n]))
            for what, n in (("from", limits[0]), ("to", limits[1]), ("axis", axis))
        ]
        return node("Slice", [source, *numbers])

    if cells_hw is None:
        return node("Identity", [sliced(sliced(value, 1, part.rows), 2, part.channels)])
    h, w = cells_hw
    if len(known) == 4:
        first = tuple(known[2:]) == (h, w)
        if not first and tuple(known[1:3]) != (h, w):
            raise ModelFileError(f"spec: {part.tensor}: expected a grid of {h}×{w}, got {tuple(known)}")
        value = sliced(value, 1 if first else 3, part.channels)
        return node("Identity", [value]) if first else node("Transpose", [value], perm=[0, 3, 1, 2])
    rows = part.rows or (0, h * w)
    if rows[1] - rows[0] != h * w:
        raise ModelFileError(
            f"spec: {part.tensor}: expected {h * w} rows for a grid of {h}×{w}, got {rows[1] - rows[0]}"
        )
    whole_rows, whole_columns = known[1] == h * w, known[2] == h * w
    along = 1 if (part.rows is not None and known[1] >= rows[1] and not whole_columns) or whole_rows else 2
    if part.rows is None and not (whole_rows or whole_columns):
        raise ModelFileError(
            f"spec: {part.tensor}: expected {h * w} rows or columns, got {tuple(known)}; name the rows"
        )
    value = sliced(sliced(value, along, rows), 3 - along, part.channels)
    value = node("Transpose", [value], perm=[0, 2, 1]) if along == 1 else value
    shape = new.constant(f"{name}_shape", np.array([1, known[3 - along], h, w]))
    return node("Reshape", [value, shape])
