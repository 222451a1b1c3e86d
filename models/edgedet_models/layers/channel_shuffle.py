"""Channel shuffle (Zhang et al., "ShuffleNet", 2018): what one group computed, all groups of the next layer read."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ChannelShuffle"]


class ChannelShuffle(nn.Module):
    """Read the channels as (groups, C / groups), and write them as (C / groups, groups); no parameters."""

    def __init__(self, groups: int) -> None:
        """Keep the number of groups, a divisor of the channels."""
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)
