"""Spatial pyramid pooling in the forms of YOLOv5 and YOLOv7, with the official key names.

He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks", 2014. Pooling three times by 5 in a row
(`Sppf`) gives what pooling by 5, 9 and 13 side by side gives (`Spp`), with less work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["Spp", "SppCspc", "Sppf", "pool_chain"]


def pool_chain(x: Tensor, pool: nn.Module, times: int = 3) -> Tensor:
    """Concatenate x with itself pooled once, twice and so on, `times` times."""
    chain = [x]
    for _ in range(times):
        chain.append(pool(chain[-1]))
    return torch.cat(chain, dim=1)


class Spp(nn.Module):
    """Pools side by side between two 1×1 cells."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.ModuleList

    def __init__(self, c_in: int, c_out: int, kernels: tuple[int, ...] = (5, 9, 13)) -> None:
        """Build with half the input channels inside."""
        super().__init__()
        hidden = c_in // 2
        self.cv1 = ConvBnAct(c_in, hidden)
        self.cv2 = ConvBnAct(hidden * (len(kernels) + 1), c_out)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in kernels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        x = self.cv1(x)
        out: Tensor = self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], dim=1))
        return out


class Sppf(nn.Module):
    """One pool several times in a row between two 1×1 cells, and, if `add`, the input."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.Module
    times: int = 3
    add: bool = False

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 5,
        *,
        hidden: int | None = None,
        act: str = "silu",
        add: bool = False,
    ) -> None:
        """Build with half the input channels inside, or `hidden`; `act` is that of the first cell (YOLO26: none)."""
        super().__init__()
        hidden = hidden or c_in // 2
        self.cv1 = ConvBnAct(c_in, hidden, act=act)
        self.cv2 = ConvBnAct(hidden * 4, c_out)
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y: Tensor = self.cv2(pool_chain(self.cv1(x), self.m, self.times))
        return x + y if self.add else y


class SppCspc(nn.Module):
    """YOLOv7's SPPCSPC: the pools within one branch of a cross-stage partial stage."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module
    cv5: nn.Module
    cv6: nn.Module
    cv7: nn.Module
    m: nn.ModuleList

    def __init__(self, c_in: int, c_out: int, kernels: tuple[int, ...] = (5, 9, 13)) -> None:
        """Build with the output channels inside."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, c_out)
        self.cv2 = ConvBnAct(c_in, c_out)
        self.cv3 = ConvBnAct(c_out, c_out, 3)
        self.cv4 = ConvBnAct(c_out, c_out)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in kernels)
        self.cv5 = ConvBnAct(c_out * (len(kernels) + 1), c_out)
        self.cv6 = ConvBnAct(c_out, c_out, 3)
        self.cv7 = ConvBnAct(2 * c_out, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y = self.cv4(self.cv3(self.cv1(x)))
        y = self.cv6(self.cv5(torch.cat([y, *(pool(y) for pool in self.m)], dim=1)))
        out: Tensor = self.cv7(torch.cat((y, self.cv2(x)), dim=1))
        return out
