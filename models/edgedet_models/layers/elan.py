"""YOLOv9's stages (Wang, Yeh and Liao, 2024, arXiv:2402.13616), with the key names of its official code.

GELAN generalizes ELAN: the halves of a first cell and what two chains of blocks give are all joined by a last cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.junctions import halves

__all__ = ["Elan", "PoolConv", "PoolSplitDown", "SppElan"]


def _blur(x: Tensor) -> Tensor:
    """Average over windows of 2×2 at stride 1; the map loses a row and a column."""
    return functional.avg_pool2d(x, 2, 1)


class Elan(nn.Module):
    """``cv4(cat(a, b, cv2(b), cv3(cv2(b))))`` with the halves a, b of ``cv1(x)``: RepNCSPELAN4 and ELAN1."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module

    def __init__(self, c_in: int, c_out: int, hidden: int, inner: int, chains: Sequence[nn.Module]) -> None:
        """Build around two chains: ``hidden / 2`` to `inner`, and `inner` to `inner` channels."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, hidden)
        self.cv2, self.cv3 = chains
        self.cv4 = ConvBnAct(hidden + 2 * inner, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        pieces = list(halves(self.cv1(x)))
        pieces.append(self.cv2(pieces[-1]))
        pieces.append(self.cv3(pieces[-1]))
        out: Tensor = self.cv4(torch.cat(pieces, dim=1))
        return out


class SppElan(nn.Module):
    """Three pools in a row (``cv2`` to ``cv4``) between two 1×1 cells: SPPELAN."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module
    cv5: nn.Module

    def __init__(self, c_in: int, c_out: int, hidden: int, kernel: int = 5) -> None:
        """Build with `hidden` channels between the cells."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, hidden)
        self.cv2, self.cv3, self.cv4 = (nn.MaxPool2d(kernel, 1, kernel // 2) for _ in range(3))
        self.cv5 = ConvBnAct(4 * hidden, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        chain = [self.cv1(x)]
        for pool in (self.cv2, self.cv3, self.cv4):
            chain.append(pool(chain[-1]))
        out: Tensor = self.cv5(torch.cat(chain, dim=1))
        return out


class PoolConv(nn.Module):
    """Average over 2×2 windows at stride 1, then a 3×3 cell of stride 2 (``cv1``): AConv."""

    cv1: nn.Module

    def __init__(self, c_in: int, c_out: int) -> None:
        """Build the cell."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, c_out, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 2, W / 2)."""
        out: Tensor = self.cv1(_blur(x))
        return out


class PoolSplitDown(nn.Module):
    """Average as `PoolConv`, then halve the size of one half by ``cv1``, of the other by a pool and ``cv2``: ADown."""

    cv1: nn.Module
    cv2: nn.Module

    def __init__(self, c_in: int, c_out: int) -> None:
        """Build a 3×3 cell of stride 2 and a 1×1 cell."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in // 2, c_out // 2, 3, 2)
        self.cv2 = ConvBnAct(c_in // 2, c_out // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 2, W / 2)."""
        a, b = halves(_blur(x))
        return torch.cat((self.cv1(a), self.cv2(functional.max_pool2d(b, 3, 2, 1))), dim=1)
