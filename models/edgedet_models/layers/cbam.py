"""CBAM (Woo et al., "CBAM: Convolutional Block Attention Module", 2018): gates for channels, then for places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Cbam"]


class Cbam(nn.Module):
    """Two gates in a row.

    Channels: ``sigmoid(f(mean) + f(max))`` over the map, f two 1×1 convolutions (``narrow``, ``widen``) without bias.
    Places: ``sigmoid(conv(mean, max))`` over the channels, a 7×7 convolution (``place``).
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 7) -> None:
        """Build with `hidden` channels inside the first gate."""
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.max = nn.AdaptiveMaxPool2d(1)
        self.narrow = nn.Conv2d(channels, hidden, 1, bias=False)
        self.widen = nn.Conv2d(hidden, channels, 1, bias=False)
        self.place = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.act = nn.ReLU()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        views = torch.cat((self.mean(x), self.max(x)), dim=2)  # side by side, so that each convolution runs once
        means, maxima = self.widen(self.act(self.narrow(views))).split(1, dim=2)
        x = x * self.gate(means + maxima)
        views = torch.cat((x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)), dim=1)
        out: Tensor = x * self.gate(self.place(views))
        return out
