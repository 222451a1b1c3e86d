"""MobileNetV2 (Sandler et al., 2018) with torchvision's keys."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap
from edgedet_models.backbones.cell import Cell

__all__ = ["MobileNetV2"]

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of the first one."""
HEAD_CHANNELS = 1280


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; keys ``conv.<i>``."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        """Build; an expansion of 1 has no widening convolution."""
        super().__init__()
        hidden = c_in * expansion
        self.conv = nn.Sequential()
        if expansion != 1:
            self.conv.append(Cell(c_in, hidden, act="relu6"))
        self.conv.append(Cell(hidden, hidden, 3, stride, groups=hidden, act="relu6"))
        self.conv.append(nn.Conv2d(hidden, c_out, 1, bias=False))
        self.conv.append(nn.BatchNorm2d(c_out))
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(Backbone):
    """Inverted residuals with linear bottlenecks; the features are those bottlenecks."""

    def __init__(self, width: float = 1.0, *, head: bool = False) -> None:
        """Build.

        Args:
            width: Factor on the published channels.
            head: Whether to end in the 1×1 convolution that widens the last features for the classifier.
        """
        super().__init__()
        c = round_channels(32 * width)
        self.features = nn.Sequential(Cell(3, c, 3, 2, act="relu6"))
        ends: list[int] = []
        for expansion, channels, repeats, stride in STAGES:
            c_out = round_channels(channels * width)
            for i in range(repeats):
                self.features.append(InvertedResidual(c, c_out, stride if i == 0 else 1, expansion))
                c = c_out
            ends.append(c)
        self.channels = (ends[2], ends[4], ends[6])
        self.classifier = ("classifier.", "features.18.")
        if head:
            c_head = round_channels(HEAD_CHANNELS * max(1.0, width))
            self.features.append(Cell(c, c_head, act="relu6"))
            self.channels = (ends[2], ends[4], c_head)
            self.classifier = ("classifier.",)

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``features.6``, ``features.13`` and the last of ``features``."""
        return tap(self.features, (6, 13, len(self.features) - 1), x)
