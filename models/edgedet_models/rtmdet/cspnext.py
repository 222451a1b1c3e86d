"""CSPNeXt: RTMDet's backbone and the stage that its neck shares, with the official key names.

A stage is a cross-stage partial one whose blocks are a 3×3 convolution and a depthwise-separable 5×5 one; in the
backbone, channels are weighted by a hard sigmoid of their mean.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.spp_bottleneck import SppBottleneck

__all__ = ["CspNext", "CspNextStage", "cell"]

EPS = 1e-5
cell = partial(ConvBnAct, eps=EPS)
"""Convolution, BatchNorm and SiLU, as mmdet builds it."""


class _Separable(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = cell(channels, channels, 5, groups=channels)
        self.pointwise_conv = cell(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class _Block(nn.Module):
    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = cell(channels, channels, 3)
        self.conv2 = _Separable(channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class _ChannelAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.act(self.fc(self.global_avgpool(x)))
        return x * weight


class CspNextStage(nn.Module):
    """Cross-stage partial stage with half the channels inside."""

    def __init__(self, c_in: int, c_out: int, blocks: int, *, shortcut: bool, attention: bool) -> None:
        """Build the stage; `shortcut` adds each block's input to its output."""
        super().__init__()
        hidden = c_out // 2
        self.main_conv = cell(c_in, hidden)
        self.short_conv = cell(c_in, hidden)
        self.final_conv = cell(2 * hidden, c_out)
        self.blocks = nn.Sequential(*(_Block(hidden, shortcut=shortcut) for _ in range(blocks)))
        if attention:
            self.attention = _ChannelAttention(2 * hidden)
        self._attended = attention

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        both = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        out: Tensor = self.final_conv(self.attention(both) if self._attended else both)
        return out


class CspNext(nn.Module):
    """Backbone: a stem of three convolutions and four stages, of which the last three are returned."""

    def __init__(self, channels: int, blocks: tuple[int, int, int, int]) -> None:
        """Build it for a stem of `channels`; stage k has 2^k times as many, and ``blocks[k - 1]`` blocks."""
        super().__init__()
        c, half = channels, channels // 2
        self.stem = nn.Sequential(cell(3, half, 3, 2), cell(half, half, 3), cell(half, c, 3))
        stage = partial(CspNextStage, attention=True)
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(cell(c << k, 2 * c << k, 3, 2), stage(2 * c << k, 2 * c << k, blocks[k], shortcut=True))
            for k in range(3)
        )
        last = 16 * c
        self.stage4 = nn.Sequential(
            cell(8 * c, last, 3, 2),
            SppBottleneck(last, last, eps=EPS),
            stage(last, last, blocks[3], shortcut=False),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at strides 8, 16 and 32."""
        p3 = self.stage2(self.stage1(self.stem(x)))
        p4 = self.stage3(p3)
        return p3, p4, self.stage4(p4)
