"""YOLOv7's RepConv: parallel 3×3, 1×1 and identity branches that fuse into one convolution.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", 2021. Official key names: ``rbr_dense.0``
(convolution) and ``.1`` (BatchNorm), ``rbr_1x1.0``, ``rbr_1x1.1``, ``rbr_identity`` (BatchNorm, where input
and output agree).
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["RepConv"]


class RepConv(nn.Module):
    """``act(rbr_dense(x) + rbr_1x1(x) + rbr_identity(x))``."""

    rbr_dense: nn.Module
    rbr_1x1: nn.Module
    rbr_identity: nn.Module | None
    act: nn.Module

    def __init__(self, c_in: int, c_out: int) -> None:
        """Build the 3×3 and 1×1 branches, and the identity where input and output channels agree."""
        super().__init__()
        self.rbr_dense = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out, eps=1e-3)
        )
        self.rbr_1x1 = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, eps=1e-3))
        self.rbr_identity = nn.BatchNorm2d(c_out, eps=1e-3) if c_in == c_out else None
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is not None:
            y = y + self.rbr_identity(x)
        out: Tensor = self.act(y)
        return out
