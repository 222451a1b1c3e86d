"""The blocks of YOLOv6-lite: depthwise convolutions, gates, channel shuffling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.yolov6.composite import Composite, PartsError

__all__ = ["CspBlock", "DarknetBlock", "DepthwisePointwise", "LiteDown", "LiteSame", "SqueezeExcite", "shuffle"]


def shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(Composite):
    """Scale each channel by a gate computed from all channel means."""

    avg_pool: nn.Module
    conv1: nn.Module
    relu: nn.Module
    conv2: nn.Module
    hardsigmoid: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        gate: Tensor = self.hardsigmoid(self.conv2(self.relu(self.conv1(self.avg_pool(x)))))
        return x * gate


class DepthwisePointwise(Composite):
    """DPBlock: depthwise and pointwise convolution, each with BatchNorm (until fused) and activation."""

    conv_dw_1: nn.Module
    bn_1: nn.Module | None
    act_1: nn.Module
    conv_pw_1: nn.Module
    bn_2: nn.Module | None
    act_2: nn.Module

    def __init__(self, **parts: nn.Module) -> None:
        """Keep the parts.

        Raises:
            PartsError: One BatchNorm is there without the other, or a required part is missing.
        """
        if ("bn_1" in parts) != ("bn_2" in parts):
            raise PartsError("expected bn_1 and bn_2, or neither where they were fused")
        super().__init__(**parts)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        x = self.conv_dw_1(x)
        x = self.act_1(x if self.bn_1 is None else self.bn_1(x))
        x = self.conv_pw_1(x)
        out: Tensor = self.act_2(x if self.bn_2 is None else self.bn_2(x))
        return out


class DarknetBlock(Composite):
    """Two convolutions in sequence, without shortcut."""

    conv_1: nn.Module
    conv_2: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same height and width."""
        out: Tensor = self.conv_2(self.conv_1(x))
        return out


class CspBlock(Composite):
    """Cross-stage partial block of the neck."""

    conv_1: nn.Module
    conv_2: nn.Module
    conv_3: nn.Module
    blocks: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        both = torch.cat((self.blocks(self.conv_1(x)), self.conv_2(x)), dim=1)
        out: Tensor = self.conv_3(both)
        return out


class LiteSame(Composite):
    """Lite_EffiBlockS1: one half of the channels through an inverted bottleneck, then shuffled."""

    conv_pw_1: nn.Module
    conv_dw_1: nn.Module
    se: nn.Module
    conv_1: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        kept, worked = x.chunk(2, dim=1)
        worked = self.conv_1(self.se(self.conv_dw_1(self.conv_pw_1(worked))))
        return shuffle(torch.cat((kept, worked), dim=1))


class LiteDown(Composite):
    """Lite_EffiBlockS2: two branches that halve height and width, then mixed."""

    conv_dw_1: nn.Module
    conv_1: nn.Module
    conv_pw_2: nn.Module
    conv_dw_2: nn.Module
    se: nn.Module
    conv_2: nn.Module
    conv_dw_3: nn.Module
    conv_pw_3: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / 2, W / 2)."""
        left = self.conv_1(self.conv_dw_1(x))
        right = self.conv_2(self.se(self.conv_dw_2(self.conv_pw_2(x))))
        out: Tensor = self.conv_pw_3(self.conv_dw_3(torch.cat((left, right), dim=1)))
        return out
