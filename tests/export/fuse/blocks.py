"""Small modules with randomised statistics, as the fuse tests need them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics and affine values that a wrong fold cannot hide behind; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for bn in module.modules():
        if isinstance(bn, nn.BatchNorm2d) and bn.running_mean is not None and bn.running_var is not None:
            bn.running_mean.normal_(generator=generator)
            bn.running_var.uniform_(0.3, 2.0, generator=generator)
            if bn.affine:
                nn.init.uniform_(bn.weight, 0.5, 1.5)
                nn.init.normal_(bn.bias)
    return module.eval()


class ConvBN(nn.Module):
    """Convolution and BatchNorm, without activation."""

    def __init__(self, c1: int, c2: int, k: int, s: int = 1, g: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=bias)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.bn(self.conv(x)))


class RepBlock(nn.Module):
    """RepVGG: 3x3 + 1x1 + identity, each with BatchNorm."""

    def __init__(self, c1: int, c2: int, s: int = 1, g: int = 1) -> None:
        super().__init__()
        self.rbr_dense = ConvBN(c1, c2, 3, s, g)
        self.rbr_1x1 = ConvBN(c1, c2, 1, s, g)
        self.rbr_identity = nn.BatchNorm2d(c1) if c1 == c2 and s == 1 else None
        self.nonlinearity = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        total = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is not None:
            total = total + self.rbr_identity(x)
        return cast(Tensor, self.nonlinearity(total))


class QARepBlock(nn.Module):
    """QARepVGG v2: 3x3 with BatchNorm, plain 1x1, identity and average pooling, BatchNorm after the sum."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.rbr_dense = ConvBN(c, c, 3)
        self.rbr_1x1 = nn.Conv2d(c, c, 1, bias=False)
        self.rbr_identity = nn.Identity()
        self.rbr_avg = nn.AvgPool2d(3, 1, 1)
        self.bn = nn.BatchNorm2d(c)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        total = self.rbr_dense(x) + self.rbr_1x1(x) + self.rbr_identity(x) + self.rbr_avg(x)
        return cast(Tensor, self.act(self.bn(total)))


class MobileOneBlock(nn.Module):
    """MobileOne: several parallel 3x3 branches, a 1x1 scale branch and a skip."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.rbr_conv = nn.ModuleList([ConvBN(c, c, 3, g=c) for _ in range(3)])
        self.rbr_scale = ConvBN(c, c, 1, g=c)
        self.rbr_skip = nn.BatchNorm2d(c)
        self.act = nn.Hardswish()

    def forward(self, x: Tensor) -> Tensor:
        total = self.rbr_scale(x) + self.rbr_skip(x)
        for branch in self.rbr_conv:
            total = total + branch(x)
        return cast(Tensor, self.act(total))


class SpaceToDepth(nn.Module):
    """Blocks of b x b pixels into channels, in the order that `order` gives for the b² offsets (row, column)."""

    def __init__(self, order: list[tuple[int, int]], block: int = 2) -> None:
        super().__init__()
        self.order, self.block = order, block

    def forward(self, x: Tensor) -> Tensor:
        b = self.block
        return torch.cat([x[..., dy::b, dx::b] for dy, dx in self.order], dim=1)


class Implicit(nn.Module):
    """YOLOR's implicit layer: a learned vector that is added, or multiplied."""

    def __init__(self, c: int, multiply: bool) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.randn(1, c, 1, 1))
        self.multiply = multiply

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit if self.multiply else x + self.implicit
