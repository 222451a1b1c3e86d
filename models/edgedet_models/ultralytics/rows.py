"""The published networks written down as rows, before and after scaling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["Layout", "Row", "RowWriter", "Size", "scale"]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer.

    Attributes:
        kind: A key of `parts.PARTS`.
        channels: Output channels, where the layer has its own.
        repeats: Cells within it.
        source: Index of the layer that it reads, negative ones counted from here; several for layers that join.
        kernel: Kernel of a cell or pool.
        stride: Stride of a cell or pool.
        padding: Padding of a cell where it is not half the kernel.
        add: Whether cells, or the whole layer, add their input.
        full: C3k2: C3k cells; C2fCIB: a 7×7 cell in each.
        share: C3k2: inner channels, as a share of the output's.
        attention: C3k2: attention behind each cell.
        areas: A2C2f: runs of cells that attend to themselves; 0 for no attention.
        residual: A2C2f: the learned residual sum of the large sizes.
        hidden: Inner channels of YOLOv9's stages.
        inner: Channels of their chains.
        picks: Feature widths of CBLinear, which feature CBFuse takes of each.
    """

    kind: str
    channels: int = 0
    repeats: int = 1
    source: int | tuple[int, ...] = -1
    kernel: int = 1
    stride: int = 1
    padding: int | None = None
    add: bool = False
    full: bool = False
    share: float = 0.5
    attention: bool = False
    areas: int = 0
    residual: bool = False
    hidden: int = 0
    inner: int = 0
    picks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """An architecture.

    Attributes:
        rows: Layers before the head.
        levels: Layers that the head reads.
        bins: Bins per side of the head.
        dense_classes: Class chains of full 3×3 cells, as before YOLO11; else depthwise ones.
        two_heads: A one-to-one head beside the one-to-many one.
    """

    rows: tuple[Row, ...]
    levels: tuple[int, ...]
    bins: int = 16
    dense_classes: bool = True
    two_heads: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Compound scaling: how often cells repeat, how wide layers are, and how wide at most.

    Attributes:
        depth: Factor on `repeats` above 1.
        width: Factor on channels.
        most: Channels before the factor, at most.
        full: C3k2 has C3k cells everywhere (YOLO11's, 12's and 26's m, l and x).
        residual: YOLO12's l and x.
    """

    depth: float
    width: float
    most: int = 1024
    full: bool = False
    residual: bool = False


def scale(layout: Layout, size: Size) -> Layout:
    """Scale repeats, and channels to multiples of 8."""
    rows = tuple(
        replace(
            row,
            channels=math.ceil(min(row.channels, size.most) * size.width / 8) * 8,
            repeats=max(round(row.repeats * size.depth), 1) if row.repeats > 1 else row.repeats,
            full=row.full or (size.full and row.kind == "C3k2"),
            residual=size.residual and row.kind == "A2C2f",
        )
        for row in layout.rows
    )
    return replace(layout, rows=rows)


@dataclass(slots=True)
class RowWriter:
    """Writes rows down and knows the patterns that the networks share."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> int:
        """Append a row and return its index."""
        self.rows.append(row)
        return len(self.rows) - 1

    def cell(self, channels: int, kernel: int = 1, stride: int = 1, source: int = -1) -> int:
        """Append a cell."""
        return self.add(Row("Conv", channels, kernel=kernel, stride=stride, source=source))

    def path(
        self,
        features: Sequence[int],
        up: Sequence[Row],
        down: Sequence[Row],
        shrink: Callable[[int], Row],
    ) -> tuple[int, ...]:
        """Append a path aggregation: coarse to fine, then back.

        Args:
            features: Layers to join, finest first; the last is the layer written last.
            up: Stages on the way to fine, coarsest first.
            down: Stages on the way back, finest first.
            shrink: The layer that halves the size before the stage of an index in `down`.

        Returns:
            The layers that the head reads, finest first.
        """
        laterals = [features[-1]]
        for feature, stage in zip(features[-2::-1], up, strict=True):
            self.add(Row("Upsample"))
            self.add(Row("Concat", source=(-1, feature)))
            laterals.append(self.add(stage))
        outputs = [laterals.pop()]
        for index, stage in enumerate(down):
            self.add(shrink(index))
            self.add(Row("Concat", source=(-1, laterals.pop())))
            outputs.append(self.add(stage))
        return tuple(outputs)
