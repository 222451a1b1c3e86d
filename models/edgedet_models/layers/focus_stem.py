"""The space-to-depth stem of YOLOX and DAMO-YOLO: four phases of the picture, then one cell."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.space_to_depth import SpaceToDepth

__all__ = ["FocusStem"]


class FocusStem(nn.Module):
    """Space-to-depth, then ``conv``."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, act: str = "silu") -> None:
        """Build the cell on ``4 * c_in`` channels."""
        super().__init__()
        self.space_to_depth = SpaceToDepth()  # a module of its own, so that fusing finds it
        self.conv = ConvBnAct(4 * c_in, c_out, kernel, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 2, W / 2)."""
        out: Tensor = self.conv(self.space_to_depth(x))
        return out
