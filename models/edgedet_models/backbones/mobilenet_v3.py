"""MobileNetV3 small and large (Howard et al., "Searching for MobileNetV3", 2019) with torchvision's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap
from edgedet_models.backbones.cell import Cell
from edgedet_models.layers.squeeze_excite import ChannelGate

__all__ = ["MobileNetV3"]

EPS = 1e-3
Block = tuple[int, int, int, bool, str, int]

BLOCKS: Mapping[str, Sequence[Block]] = {
    "small": (
        (3, 16, 16, True, "relu", 2),
        (3, 72, 24, False, "relu", 2),
        (3, 88, 24, False, "relu", 1),
        (5, 96, 40, True, "hardswish", 2),
        (5, 240, 40, True, "hardswish", 1),
        (5, 240, 40, True, "hardswish", 1),
        (5, 120, 48, True, "hardswish", 1),
        (5, 144, 48, True, "hardswish", 1),
        (5, 288, 96, True, "hardswish", 2),
        (5, 576, 96, True, "hardswish", 1),
        (5, 576, 96, True, "hardswish", 1),
    ),
    "large": (
        (3, 16, 16, False, "relu", 1),
        (3, 64, 24, False, "relu", 2),
        (3, 72, 24, False, "relu", 1),
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
        (3, 240, 80, False, "hardswish", 2),
        (3, 200, 80, False, "hardswish", 1),
        (3, 184, 80, False, "hardswish", 1),
        (3, 184, 80, False, "hardswish", 1),
        (3, 480, 112, True, "hardswish", 1),
        (3, 672, 112, True, "hardswish", 1),
        (5, 672, 160, True, "hardswish", 2),
        (5, 960, 160, True, "hardswish", 1),
        (5, 960, 160, True, "hardswish", 1),
    ),
}
"""Tables 1 and 2 of the paper: kernel, inner channels, output channels, gate, activation, stride."""
ENDS: Mapping[str, tuple[int, int, int]] = {"small": (3, 8, 11), "large": (6, 12, 15)}
"""Last layers of ``features`` at strides 8, 16 and 32."""


class InvertedResidual(nn.Module):
    """Widen, filter each channel, gate, narrow without activation; keys ``block.<i>``."""

    def __init__(self, c_in: int, block: Block, width: float) -> None:
        """Build one row of `BLOCKS`."""
        super().__init__()
        kernel, hidden, c_out, gate, act, stride = block
        hidden, c_out = round_channels(hidden * width), round_channels(c_out * width)
        self.block = nn.Sequential()
        if hidden != c_in:
            self.block.append(Cell(c_in, hidden, act=act, eps=EPS))
        self.block.append(Cell(hidden, hidden, kernel, stride, groups=hidden, act=act, eps=EPS))
        if gate:
            self.block.append(ChannelGate(hidden, round_channels(hidden // 4), gate="hardsigmoid"))
        self.block.append(Cell(hidden, c_out, act="identity", eps=EPS))
        self.shortcut = stride == 1 and c_in == c_out
        self.channels = c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.block(x)
        return x + y if self.shortcut else y


class MobileNetV3(Backbone):
    """Searched inverted residuals with gates and hard-swish."""

    def __init__(self, size: Literal["small", "large"], width: float = 1.0, *, head: bool = False) -> None:
        """Build.

        Args:
            size: Which of the two networks.
            width: Factor on the published channels.
            head: Whether to end in the 1×1 convolution that widens the last features for the classifier.
        """
        super().__init__()
        c = round_channels(16 * width)
        self.features = nn.Sequential(Cell(3, c, 3, 2, act="hardswish", eps=EPS))
        channels = [c]
        for block in BLOCKS[size]:
            layer = InvertedResidual(channels[-1], block, width)
            self.features.append(layer)
            channels.append(layer.channels)
        fine, middle, coarse = ENDS[size]
        self.channels = (channels[fine], channels[middle], channels[coarse])
        self.classifier = ("classifier.", f"features.{coarse + 1}.")
        if head:
            self.features.append(Cell(channels[-1], 6 * channels[-1], act="hardswish", eps=EPS))
            self.channels = (channels[fine], channels[middle], 6 * channels[-1])
            self.classifier = ("classifier.",)
        self.at = (fine, middle, len(self.features) - 1)

    def forward(self, x: Tensor) -> Features:
        """Return the last outputs at strides 8, 16 and 32."""
        return tap(self.features, self.at, x)
