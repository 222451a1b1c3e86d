"""Ghost cells (Han et al., "GhostNet: More Features from Cheap Operations", 2020) as YOLOv5 has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GhostBottleneck", "GhostConv"]


class GhostConv(nn.Module):
    """Half of the channels by a cell (``cv1``), the other half cheaply from those (``cv2``)."""

    cv1: nn.Module
    cv2: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), dim=1)


class GhostBottleneck(nn.Module):
    """``conv(x) + shortcut(x)``, both sequences."""

    conv: nn.Module
    shortcut: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        out: Tensor = self.conv(x) + self.shortcut(x)
        return out
