"""Layers that join, split or rearrange tensors and have no parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Add", "ChunkConcat", "Concat", "FoldHalves", "Pick", "PoolDown", "halves"]


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second half of the channels, by sizes known when traced: ONNX's plain Split."""
    first, second = x.split(int(x.shape[1]) // 2, dim=1)
    return first, second


class Concat(nn.Module):
    """Concatenate along the channels."""

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Map (N, C_i, H, W) to (N, sum C_i, H, W)."""
        return torch.cat(list(xs), dim=1)


class Add(nn.Module):
    """Add two tensors: YOLOv7's Shortcut."""

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Map two (N, C, H, W) to one."""
        return xs[0] + xs[1]


class ChunkConcat(nn.Module):
    """First halves of all inputs, then second halves: YOLOv7's Chuncat."""

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Map (N, C_i, H, W) to (N, sum C_i, H, W)."""
        halves = [x.chunk(2, dim=1) for x in xs]
        return torch.cat([h[0] for h in halves] + [h[1] for h in halves], dim=1)


class FoldHalves(nn.Module):
    """Add the second half of the channels to the first: YOLOv7's Foldcut."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C / 2, H, W)."""
        first, second = x.chunk(2, dim=1)
        return first + second


class PoolDown(nn.Module):
    """Halve the size in two branches, ``cv2(cv1(x))`` and ``cv3(mp(x))``, concatenated: YOLOv7's DownC."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    mp: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 2, W / 2)."""
        return torch.cat((self.cv2(self.cv1(x)), self.cv3(self.mp(x))), dim=1)


class Pick(nn.Module):
    """Pass on one of several tensors."""

    def __init__(self, index: int) -> None:
        """Keep its index."""
        super().__init__()
        self.index = index

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Return the tensor at the index."""
        return xs[self.index]
