"""Implicit knowledge (Wang et al., "You Only Learn One Representation", 2021): a number per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ImplicitAdd", "ImplicitMultiply"]


class ImplicitAdd(nn.Module):
    """Add ``implicit`` (1, C, 1, 1): YOLOv7's ImplicitA."""

    def __init__(self, channels: int) -> None:
        """Start near zero, as the official code does."""
        super().__init__()
        self.implicit = nn.Parameter(torch.empty(1, channels, 1, 1).normal_(0.0, 0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.implicit


class ImplicitMultiply(nn.Module):
    """Multiply by ``implicit`` (1, C, 1, 1): YOLOv7's ImplicitM."""

    def __init__(self, channels: int) -> None:
        """Start near one, as the official code does."""
        super().__init__()
        self.implicit = nn.Parameter(torch.empty(1, channels, 1, 1).normal_(1.0, 0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x * self.implicit
