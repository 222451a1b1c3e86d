"""ResNet's bottleneck (He et al. 2015), with the key names of Ultralytics' code."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["ResNetCell", "ResNetStage"]


class ResNetCell(nn.Module):
    """``relu(cv3(cv2(cv1(x))) + shortcut(x))``: 1×1, 3×3 with the stride, 1×1 without activation."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    shortcut: nn.Module

    def __init__(self, c_in: int, inner: int, stride: int = 1, expansion: int = 4) -> None:
        """Build; the shortcut is a convolution where the shape changes."""
        super().__init__()
        c_out = expansion * inner
        self.cv1 = ConvBnAct(c_in, inner, act="relu")
        self.cv2 = ConvBnAct(inner, inner, 3, stride, act="relu")
        self.cv3 = ConvBnAct(inner, c_out, act="identity")
        changes = stride != 1 or c_in != c_out
        self.shortcut = nn.Sequential(ConvBnAct(c_in, c_out, 1, stride, act="identity")) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        return functional.relu(self.cv3(self.cv2(self.cv1(x))) + self.shortcut(x))


class ResNetStage(nn.Module):
    """Layers in a row, held as ``layer``: cells, or the 7×7 stem with its pooling."""

    layer: nn.Module

    def __init__(
        self, c_in: int, inner: int, *, cells: int, stride: int, first: bool = False, expansion: int = 4
    ) -> None:
        """Build; the first stage is the stem."""
        super().__init__()
        if first:
            self.layer = nn.Sequential(ConvBnAct(c_in, inner, 7, 2, act="relu"), nn.MaxPool2d(3, 2, 1))
            return
        widths = (c_in, *[expansion * inner] * (cells - 1))
        self.layer = nn.Sequential(
            *(ResNetCell(c, inner, stride if i == 0 else 1, expansion) for i, c in enumerate(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        out: Tensor = self.layer(x)
        return out
