"""Blocks that are a chain of cells, with a residual sum or without."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["ChannelsThenSize", "InnerChain", "ResidualTail"]


class ChannelsThenSize(nn.Module):
    """A 1×1 cell for the channels, a depthwise one for the size: SCDown of YOLOv10 and LightConv."""

    cv1: nn.Module
    cv2: nn.Module

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        """Build; the depthwise cell has no activation."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, c_out)
        self.cv2 = ConvBnAct(c_out, c_out, kernel, stride, groups=c_out, act="identity")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        out: Tensor = self.cv2(self.cv1(x))
        return out


class InnerChain(nn.Module):
    """A chain of cells (``cv1``) and, if `add`, its input: CIB of YOLOv10."""

    cv1: nn.Module
    add: bool

    def __init__(self, cells: nn.Module, *, add: bool) -> None:
        """Keep the chain."""
        super().__init__()
        self.cv1 = cells
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.cv1(x)
        return x + y if self.add else y


class ResidualTail(nn.Module):
    """``m(cv1(x)) + cv1(x)``: C1."""

    cv1: nn.Module
    m: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y: Tensor = self.cv1(x)
        out: Tensor = self.m(y) + y
        return out
