"""Deformable attention: each query looks at a few places around its box, on every level of a pyramid.

Zhu et al., "Deformable DETR", 2020, in the form of RT-DETR: offsets are in fractions of half the query's box, divided
by the number of points of their level. RT-DETRv2 and D-FINE allow each level its own number of points.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DeformableAttention", "Pyramid"]

OFFSET_SCALE = 0.5

Pyramid = Sequence[tuple[int, int]]
"""Rows and columns of each level."""


class DeformableAttention(nn.Module):
    """Weighted samples of the pyramid around a box, per head.

    Keys as in the official code: ``sampling_offsets``, ``attention_weights``, and in RT-DETR ``value_proj`` and
    ``output_proj``, which D-FINE has not.
    """

    heads: int
    points: tuple[int, ...]
    sampling_offsets: nn.Module
    attention_weights: nn.Module
    value_proj: nn.Module | None
    output_proj: nn.Module | None

    def __init__(self, channels: int, heads: int, points: Sequence[int], *, projections: bool = True) -> None:
        """Build the layers.

        Args:
            channels: Of queries and pyramid; `heads` divides it.
            heads: Number of heads.
            points: Sampled places per level and head.
            projections: Whether values and the result are projected.
        """
        super().__init__()
        self.heads = heads
        self.points = tuple(points)
        samples = heads * sum(self.points)
        self.sampling_offsets = nn.Linear(channels, 2 * samples)
        self.attention_weights = nn.Linear(channels, samples)
        self.value_proj = nn.Linear(channels, channels) if projections else None
        self.output_proj = nn.Linear(channels, channels) if projections else None

    def forward(self, query: Tensor, boxes: Tensor, memory: Tensor, sizes_hw: Pyramid) -> Tensor:
        """Let queries look at the pyramid.

        Args:
            query: (N, Q, C).
            boxes: cx, cy, w, h of each query as fractions, (N, Q, 4).
            memory: All cells, finest level first, rows first, (N, cells, C).
            sizes_hw: Rows and columns of each level.

        Returns:
            (N, Q, C).
        """
        n, queries, channels = (int(size) for size in query.shape)
        heads, per_head, samples = self.heads, channels // self.heads, sum(self.points)
        value = memory if self.value_proj is None else self.value_proj(memory)
        value = value.transpose(1, 2).reshape(n * heads, per_head, -1)
        scale = [OFFSET_SCALE / count for count in self.points for _ in range(count)]
        scales = torch.tensor(scale, dtype=query.dtype, device=query.device).reshape(samples, 1)
        offsets = self.sampling_offsets(query).reshape(n, queries, heads, samples, 2)
        centers, extents = (part[:, :, None, None] for part in boxes.chunk(2, dim=-1))
        places = centers + offsets * scales * extents
        # grid_sample counts from -1 to 1, heads belong to the batch
        grids = (2 * places - 1).transpose(1, 2).reshape(n * heads, queries, samples, 2)
        weights = self.attention_weights(query).reshape(n, queries, heads, samples).softmax(dim=-1)
        weights = weights.transpose(1, 2).reshape(n * heads, 1, queries, samples)
        levels = value.split([h * w for h, w in sizes_hw], dim=-1)
        seen = [
            functional.grid_sample(
                level.reshape(n * heads, per_head, h, w),
                grid,
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )
            for level, (h, w), grid in zip(levels, sizes_hw, grids.split(self.points, dim=2), strict=True)
        ]
        out: Tensor = (torch.cat(seen, dim=-1) * weights).sum(dim=-1).reshape(n, channels, queries).transpose(1, 2)
        if self.output_proj is not None:
            out = self.output_proj(out)
        return out
