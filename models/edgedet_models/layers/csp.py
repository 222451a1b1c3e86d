"""Residual cells and cross-stage partial stages of YOLOv5 and its relatives, with the official key names.

CSP: Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN", 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["C3", "BottleneckCsp", "CrossStage", "Residual"]


class Residual(nn.Module):
    """Two cells (``cv1``, ``cv2``) and, if `add`, their input: YOLOv5's Bottleneck and CrossConv."""

    cv1: nn.Module
    cv2: nn.Module
    add: bool

    def __init__(self, channels: int, *, add: bool) -> None:
        """Build a 1×1 and a 3×3 cell that keep the channels."""
        super().__init__()
        self.cv1 = ConvBnAct(channels, channels)
        self.cv2 = ConvBnAct(channels, channels, 3)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    """CSP stage of three 1×1 cells: ``cv3(cat(m(cv1(x)), cv2(x)))``."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    m: nn.Module

    def __init__(self, c_in: int, c_out: int, repeats: int, *, add: bool) -> None:
        """Build with half the output channels inside and `repeats` residual cells."""
        super().__init__()
        hidden = c_out // 2
        self.cv1 = ConvBnAct(c_in, hidden)
        self.cv2 = ConvBnAct(c_in, hidden)
        self.cv3 = ConvBnAct(2 * hidden, c_out)
        self.m = nn.Sequential(*(Residual(hidden, add=add) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        out: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), dim=1))
        return out


class BottleneckCsp(nn.Module):
    """The stage before C3 (YOLOv5 v1 to v3, YOLOv4-CSP): ``cv4(act(bn(cat(cv3(m(cv1(x))), cv2(x)))))``.

    ``cv2`` and ``cv3`` are bare convolutions; their BatchNorm is the common ``bn`` behind the concatenation.
    """

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module
    bn: nn.Module
    act: nn.Module
    m: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), dim=1)
        out: Tensor = self.cv4(self.act(self.bn(y)))
        return out


class CrossStage(nn.Module):
    """CSP stages of YOLOv7's baselines (BottleneckCSPA, B and C of the official code).

    They differ in where the split branch starts and whether a cell stands between: A is C3; B has one common
    cell in front (``cv1``) and takes both branches from it; C adds a cell (``cv3``) behind the residual ones.
    """

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module | None
    m: nn.Module
    form: str

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        if self.form == "B":
            x = self.cv1(x)
            parts = (self.m(x), self.cv2(x))
            last = self.cv3
        else:
            assert self.cv4 is not None, "form C has four cells"
            parts = (self.cv3(self.m(self.cv1(x))), self.cv2(x))
            last = self.cv4
        out: Tensor = last(torch.cat(parts, dim=1))
        return out
