"""HGNetv2's stem and stages (PaddleDetection's backbone of RT-DETR), with the key names of Ultralytics' code."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.layers.chain import ChannelsThenSize
from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["HgBlock", "HgStem"]


class HgStem(nn.Module):
    """A quarter of the size: two 2×2 convolutions beside a 2×2 maximum, each padded on the right and below."""

    stem1: nn.Module
    stem2a: nn.Module
    stem2b: nn.Module
    stem3: nn.Module
    stem4: nn.Module
    pool: nn.Module

    def __init__(self, c_in: int, inner: int, c_out: int) -> None:
        """Build the cells."""
        super().__init__()
        self.stem1 = ConvBnAct(c_in, inner, 3, 2, act="relu")
        self.stem2a = ConvBnAct(inner, inner // 2, 2, 1, padding=0, act="relu")
        self.stem2b = ConvBnAct(inner // 2, inner, 2, 1, padding=0, act="relu")
        self.stem3 = ConvBnAct(2 * inner, inner, 3, 2, act="relu")
        self.stem4 = ConvBnAct(inner, c_out, 1, act="relu")
        self.pool = nn.MaxPool2d(2, 1, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 4, W / 4)."""
        x = functional.pad(self.stem1(x), (0, 1, 0, 1))
        narrow = self.stem2b(functional.pad(self.stem2a(x), (0, 1, 0, 1)))
        out: Tensor = self.stem4(self.stem3(torch.cat((self.pool(x), narrow), dim=1)))
        return out


class HgBlock(nn.Module):
    """Cells in a row; the input and all their outputs are joined, squeezed (``sc``) and widened (``ec``).

    Attributes:
        add: Whether the input is added.
    """

    m: nn.Module
    sc: nn.Module
    ec: nn.Module
    add: bool

    def __init__(
        self, c_in: int, inner: int, c_out: int, kernel: int, *, cells: int, light: bool = False, add: bool = False
    ) -> None:
        """Build the cells; light ones are a 1×1 and a depthwise convolution."""
        super().__init__()
        widths = (c_in, *[inner] * cells)
        self.m = nn.ModuleList(_cell(a, b, kernel, light=light) for a, b in itertools.pairwise(widths))
        self.sc = ConvBnAct(sum(widths), c_out // 2, act="relu")
        self.ec = ConvBnAct(c_out // 2, c_out, act="relu")
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        joined = [x]
        for cell in self.m.children():
            joined.append(cell(joined[-1]))
        y: Tensor = self.ec(self.sc(torch.cat(joined, dim=1)))
        return x + y if self.add else y


def _cell(c_in: int, c_out: int, kernel: int, *, light: bool) -> nn.Module:
    if not light:
        return ConvBnAct(c_in, c_out, kernel, act="relu")
    cell = ChannelsThenSize(c_in, c_out, kernel, 1)
    cell.cv1 = ConvBnAct(c_in, c_out, act="identity")
    cell.cv2 = ConvBnAct(c_out, c_out, kernel, groups=c_out, act="relu")
    return cell
