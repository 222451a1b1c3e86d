"""Depthwise-separable convolution as YOLOX-nano has it: both halves with BatchNorm and activation."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["DepthwiseSeparable"]


class DepthwiseSeparable(nn.Module):
    """A depthwise k×k cell (``dconv``), then a pointwise one (``pconv``)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, act: str = "silu") -> None:
        """Build both halves; the stride is the depthwise one's."""
        super().__init__()
        self.dconv = ConvBnAct(c_in, c_in, kernel, stride, groups=c_in, act=act)
        self.pconv = ConvBnAct(c_in, c_out, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        out: Tensor = self.pconv(self.dconv(x))
        return out
