"""CSP stages that split one cell's output instead of having two cells, with the official key names.

YOLOv8's C2f keeps what every residual cell gives (as ELAN does: Wang et al., "Designing Network Design Strategies
Through Gradient Path Analysis", 2022); C3k2 of YOLO11 and YOLO26, C2fCIB and C2fPSA are the same stage with other cells
inside. C2 keeps the last only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.junctions import halves

__all__ = ["HalfStage", "SplitStage"]


class SplitStage(nn.Module):
    """``cv2(cat(a, b, m0(b), m1(m0(b)), …))`` with the halves a, b of ``cv1(x)``."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.ModuleList

    def __init__(self, c_in: int, c_out: int, hidden: int, cells: Sequence[nn.Module]) -> None:
        """Build around `cells`, which keep `hidden` channels."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, 2 * hidden)
        self.cv2 = ConvBnAct((2 + len(cells)) * hidden, c_out)
        self.m = nn.ModuleList(cells)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        pieces = list(halves(self.cv1(x)))
        for cell in self.m:
            pieces.append(cell(pieces[-1]))
        out: Tensor = self.cv2(torch.cat(pieces, dim=1))
        return out


class HalfStage(nn.Module):
    """One half of ``cv1(x)`` goes through ``m``, both are joined by ``cv2``.

    C2 puts the first half through, C2PSA of YOLO11 the second; the halves keep their order.
    """

    cv1: nn.Module
    cv2: nn.Module
    m: nn.Module
    second: bool

    def __init__(self, c_in: int, c_out: int, cells: Sequence[nn.Module], *, hidden: int, second: bool) -> None:
        """Build around `cells`, which keep `hidden` channels; `second`: they take the second half."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, 2 * hidden)
        self.cv2 = ConvBnAct(2 * hidden, c_out)
        self.m = nn.Sequential(*cells)
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        a, b = halves(self.cv1(x))
        joined = (a, self.m(b)) if self.second else (self.m(a), b)
        out: Tensor = self.cv2(torch.cat(joined, dim=1))
        return out
