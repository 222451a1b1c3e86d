"""Depthwise-separable convolution with timm's keys."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.activation import activation

__all__ = ["Separable"]


class Separable(nn.Module):
    """Depthwise (``conv_dw``, ``bn1``), then pointwise (``conv_pw``, ``bn2``).

    Where `linear`, no activation follows the second, and a block that keeps its shape adds its input: timm's first
    block of EfficientNet. Otherwise both halves are activated and nothing is added: MobileNetV1.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, *, act: str, linear: bool = False, eps: float = 1e-5
    ) -> None:
        """Build; the stride is the depthwise half's, `act` a key of `ACTIVATIONS`."""
        super().__init__()
        self.conv_dw = nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in, eps=eps)
        self.act1 = activation(act)
        self.conv_pw = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out, eps=eps)
        self.act2 = nn.Identity() if linear else activation(act)
        self.shortcut = linear and stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.act1(self.bn1(self.conv_dw(x)))
        y = self.act2(self.bn2(self.conv_pw(y)))
        return x + y if self.shortcut else y
