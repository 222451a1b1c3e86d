"""Cells whose parallel convolutions are summed in training and become one at export.

Such a class names its branches in `parallel_branches`; the fuse pass `MergeBranches` reads that.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["ParallelConv", "ParallelDepthwise"]


class ParallelConv(nn.Module):
    """``act(conv1(x) + conv2(x) + bn(x))``: RepConvN of YOLOv9, RepConv of Ultralytics' code.

    ``conv1`` is a 3×3, ``conv2`` a 1×1 convolution, both with BatchNorm; ``bn`` alone is an identity branch.
    """

    parallel_branches: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "bn")
    conv1: nn.Module
    conv2: nn.Module
    bn: nn.Module | None
    act: nn.Module

    def __init__(self, c_in: int, c_out: int) -> None:
        """Build both convolutions, without the identity branch, which no published network has."""
        super().__init__()
        self.conv1 = ConvBnAct(c_in, c_out, 3, act="identity")
        self.conv2 = ConvBnAct(c_in, c_out, 1, act="identity")
        self.bn = None
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y = self.conv1(x) + self.conv2(x)
        if self.bn is not None:
            y = y + self.bn(x)
        out: Tensor = self.act(y)
        return out


class ParallelDepthwise(nn.Module):
    """``act(conv(x) + conv1(x))``, a 7×7 and a 3×3 depthwise convolution: RepVGGDW of YOLOv10."""

    parallel_branches: ClassVar[tuple[str, ...]] = ("conv", "conv1")
    conv: nn.Module
    conv1: nn.Module
    act: nn.Module

    def __init__(self, channels: int) -> None:
        """Build both convolutions."""
        super().__init__()
        self.conv = ConvBnAct(channels, channels, 7, groups=channels, act="identity")
        self.conv1 = ConvBnAct(channels, channels, 3, groups=channels, act="identity")
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        out: Tensor = self.act(self.conv(x) + self.conv1(x))
        return out
