"""Spatial pyramid pooling between two 1×1 cells, as in YOLOX and DAMO-YOLO."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["SppBottleneck"]


class SppBottleneck(nn.Module):
    """Halve the channels (``conv1``), pool at 5, 9 and 13, concatenate with the unpooled, mix (``conv2``)."""

    def __init__(self, c_in: int, c_out: int, *, act: str = "silu", eps: float = 1e-3) -> None:
        """Build the cells and pools."""
        super().__init__()
        hidden = c_in // 2
        self.conv1 = ConvBnAct(c_in, hidden, act=act, eps=eps)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
        self.conv2 = ConvBnAct(hidden * 4, c_out, act=act, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat([x, *(pool(x) for pool in self.m)], dim=1))
        return out
