"""NanoDet's necks: Plus joins levels by ghost blocks (GhostPAN), m adds resized maps without a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.backbones.ghostnet import GhostBottleneck
from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["ACT", "AddingPan", "GhostPan", "Separable"]

ACT = "leaky"


class Separable(nn.Module):
    """A depthwise, then a 1×1 convolution, each with BatchNorm and activation, with NanoDet's key names."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        """Build; the stride is the depthwise one's."""
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False)
        self.dwnorm = nn.BatchNorm2d(c_in)
        self.act1 = nn.LeakyReLU(0.1)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.pwnorm = nn.BatchNorm2d(c_out)
        self.act2 = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        x = self.act1(self.dwnorm(self.depthwise(x)))
        out: Tensor = self.act2(self.pwnorm(self.pointwise(x)))
        return out


class _Ghosts(nn.Module):
    def __init__(self, channels: int, kernel: int, count: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                GhostBottleneck(channels if i else 2 * channels, channels, channels, kernel, 1, gate=False, act=ACT)
                for i in range(count)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class GhostPan(nn.Module):
    """Top down, bottom up, and further levels made from the coarsest input and the coarsest output."""

    def __init__(self, channels: Sequence[int], width: int, *, kernel: int, blocks: int, extra: int) -> None:
        """Build.

        Args:
            channels: Of the backbone's maps.
            width: Of the neck's.
            kernel: Side of the depthwise convolutions.
            blocks: Ghost blocks at each joint.
            extra: Levels behind the coarsest.
        """
        super().__init__()
        joints = range(len(channels) - 1)
        self.reduce_layers = nn.ModuleList(ConvBnAct(c, width, act=ACT, eps=1e-5) for c in channels)
        self.top_down_blocks = nn.ModuleList(_Ghosts(width, kernel, blocks) for _ in joints)
        self.downsamples = nn.ModuleList(Separable(width, width, kernel, 2) for _ in joints)
        self.bottom_up_blocks = nn.ModuleList(_Ghosts(width, kernel, blocks) for _ in joints)
        self.extra_lvl_in_conv = nn.ModuleList(Separable(width, width, kernel, 2) for _ in range(extra))
        self.extra_lvl_out_conv = nn.ModuleList(Separable(width, width, kernel, 2) for _ in range(extra))
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map per level, finest first."""
        reduced = [layer(x) for layer, x in zip(self.reduce_layers, features, strict=True)]
        down = [reduced[-1]]
        for block, finer in zip(self.top_down_blocks, reversed(reduced[:-1]), strict=True):
            down.insert(0, block(torch.cat((self.upsample(down[0]), finer), dim=1)))
        out = [down[0]]
        for downsample, block, coarser in zip(self.downsamples, self.bottom_up_blocks, down[1:], strict=True):
            out.append(block(torch.cat((downsample(out[-1]), coarser), dim=1)))
        for of_input, of_output in zip(self.extra_lvl_in_conv, self.extra_lvl_out_conv, strict=True):
            out.append(of_input(reduced[-1]) + of_output(out[-1]))
        return out


class _Lateral(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class AddingPan(nn.Module):
    """1×1 convolutions, then sums with the doubled coarser map, then with the halved finer map; nothing is learned."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        """Build for the channels of the backbone's maps."""
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Lateral(c, width) for c in channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map per level, finest first."""
        maps = [layer(x) for layer, x in zip(self.lateral_convs, features, strict=True)]
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + _scaled(maps[i], 2.0)
        for i in range(len(maps) - 1):
            maps[i + 1] = maps[i + 1] + _scaled(maps[i], 0.5)
        return maps


def _scaled(x: Tensor, factor: float) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
