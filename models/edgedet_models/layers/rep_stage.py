"""RepC3, the fusion stage of RT-DETR: parallel convolutions in a row beside a shortcut, summed."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.parallel import ParallelConv

__all__ = ["RepStage"]


class RepStage(nn.Module):
    """``cv3(m(cv1(x)) + cv2(x))``."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.Module
    cv3: nn.Module

    def __init__(self, c_in: int, c_out: int, repeats: int = 3) -> None:
        """Build RT-DETR's form: as wide inside as outside, so that nothing follows the sum."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, c_out)
        self.cv2 = ConvBnAct(c_in, c_out)
        self.m = nn.Sequential(*(ParallelConv(c_out, c_out) for _ in range(repeats)))
        self.cv3 = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        out: Tensor = self.cv3(self.m(self.cv1(x)) + self.cv2(x))
        return out
