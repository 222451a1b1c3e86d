"""The space-to-depth stem of YOLOX and DAMO-YOLO: four phases of the picture, then one cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["FocusStem"]


class FocusStem(nn.Module):
    """Phases (row, column) even/even, odd/even, even/odd, odd/odd, concatenated; then ``conv``."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, act: str = "silu") -> None:
        """Build the cell on ``4 * c_in`` channels."""
        super().__init__()
        self.conv = ConvBnAct(4 * c_in, c_out, kernel, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 2, W / 2)."""
        phases = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        out: Tensor = self.conv(torch.cat(phases, dim=1))
        return out
