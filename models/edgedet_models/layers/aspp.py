"""Atrous spatial pyramid pooling (Chen et al., "DeepLab", 2018) in the place of SPPF."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["Aspp"]


class Aspp(nn.Module):
    """Dilated 3×3 convolutions side by side between two 1×1 cells.

    Rates of 2, 4 and 6 see windows of 5, 9 and 13 cells, those of SPPF; DeepLab's 6, 12 and 18 would mostly see the
    padding of a 20×20 map. DeepLabv3's branch of the whole map's mean is left out: BatchNorm cannot train on it with
    a batch of one, and what it adds does not depend on the place.

    Keys: ``reduce``, ``branches.<i>.0`` (convolution) and ``.1`` (BatchNorm), ``mix``.
    """

    def __init__(self, c_in: int, c_out: int, rates: tuple[int, ...] = (2, 4, 6)) -> None:
        """Build with half the input channels inside, a quarter in each dilated branch."""
        super().__init__()
        hidden, branch = c_in // 2, c_in // 4
        self.reduce = ConvBnAct(c_in, hidden)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(hidden, branch, 3, padding=rate, dilation=rate, bias=False),
                nn.BatchNorm2d(branch, eps=1e-3),
                nn.SiLU(),
            )
            for rate in rates
        )
        self.mix = ConvBnAct(hidden + len(rates) * branch, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        x = self.reduce(x)
        out: Tensor = self.mix(torch.cat([x, *(branch(x) for branch in self.branches)], dim=1))
        return out
