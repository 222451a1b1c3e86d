"""Places and boxes in a picture as fractions, for attention over feature maps.

Formulas: RT-DETR (Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", 2023) and its official code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["cell_boxes", "inverse_sigmoid", "sincos_positions"]

FIRST_SIZE = 0.05
"""Side of a cell's box at the finest level, as a fraction of the picture; it doubles with each level."""
MARGIN = 0.01
"""Cells whose box is nearer than this to 0 or 1 in any number do not count."""
SMALLEST = 1e-5
TEMPERATURE = 10_000.0


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Return the logit of fractions, which are kept `SMALLEST` away from 0 and 1."""
    x = x.clamp(0.0, 1.0)
    return torch.log(x.clamp(min=SMALLEST) / (1.0 - x).clamp(min=SMALLEST))


def cell_boxes(sizes_hw: Sequence[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return a box for each cell of a pyramid, finest level first, rows first.

    Args:
        sizes_hw: Rows and columns of each level.
        like: Gives dtype and device.

    Returns:
        Logits of cx, cy, w, h, shape (1, cells, 4), infinite where the cell does not count; and whether it counts,
        shape (1, cells, 1).
    """
    levels = []
    for level, (h, w) in enumerate(sizes_hw):
        rows = torch.arange(h, dtype=like.dtype, device=like.device)
        columns = torch.arange(w, dtype=like.dtype, device=like.device)
        y, x = torch.meshgrid((rows + 0.5) / h, (columns + 0.5) / w, indexing="ij")
        side = torch.full_like(x, FIRST_SIZE * 2.0**level)
        levels.append(torch.stack((x, y, side, side), dim=-1).reshape(1, h * w, 4))
    boxes = torch.cat(levels, dim=1)
    counts = ((boxes > MARGIN) & (boxes < 1 - MARGIN)).all(dim=-1, keepdim=True)
    return torch.log(boxes / (1 - boxes)).masked_fill(~counts, torch.inf), counts


def sincos_positions(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Return fixed positions of a map's cells, sines and cosines of two coordinates: (1, height * width, channels).

    The official code makes its grid column by column and adds it to cells that are listed row by row. On a square map
    that exchanges the coordinates, on others it shears them; trained weights expect just that.
    """
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    x, y = torch.meshgrid(columns, rows, indexing="ij")
    quarter = channels // 4
    powers = torch.arange(quarter, dtype=like.dtype, device=like.device) / quarter
    frequencies = 1.0 / TEMPERATURE**powers
    x, y = (axis.reshape(-1, 1) * frequencies for axis in (x, y))
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=1)[None]
