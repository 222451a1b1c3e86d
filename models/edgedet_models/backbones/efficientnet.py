"""EfficientNet-B0 (Tan and Le, 2019) with torchvision's keys."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap
from edgedet_models.backbones.cell import Cell
from edgedet_models.layers.squeeze_excite import ChannelGate

__all__ = ["STAGES", "STEM_CHANNELS", "EfficientNet"]

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Table 1 of the paper: expansion, kernel, stride of the first block, channels, blocks."""
STEM_CHANNELS = 32


class MbConv(nn.Module):
    """Widen, filter each channel, gate, narrow without activation; keys ``block.<i>``."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        """Build; the gate's inner channels are a quarter of the block's input."""
        super().__init__()
        hidden = round_channels(c_in * expansion)
        self.block = nn.Sequential()
        if hidden != c_in:
            self.block.append(Cell(c_in, hidden, act="silu"))
        self.block.append(Cell(hidden, hidden, kernel, stride, groups=hidden, act="silu"))
        self.block.append(ChannelGate(hidden, max(1, c_in // 4), act="silu", gate="sigmoid"))
        self.block.append(Cell(hidden, c_out, act="identity"))
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.block(x)
        return x + y if self.shortcut else y


class EfficientNet(Backbone):
    """B0, scaled in width alone."""

    def __init__(self, width: float = 1.0, *, head: bool = False) -> None:
        """Build.

        Args:
            width: Factor on B0's channels.
            head: Whether to end in the 1×1 convolution that widens the last features for the classifier.
        """
        super().__init__()
        c = round_channels(STEM_CHANNELS * width)
        self.features = nn.Sequential(Cell(3, c, 3, 2, act="silu"))
        ends: list[int] = []
        for expansion, kernel, stride, channels, repeats in STAGES:
            c_out = round_channels(channels * width)
            stage = nn.Sequential()
            for i in range(repeats):
                stage.append(MbConv(c, c_out, kernel, stride if i == 0 else 1, expansion))
                c = c_out
            self.features.append(stage)
            ends.append(c)
        self.channels = (ends[2], ends[4], ends[6])
        self.classifier = ("classifier.", "features.8.")
        if head:
            self.features.append(Cell(c, 4 * c, act="silu"))
            self.channels = (ends[2], ends[4], 4 * c)
            self.classifier = ("classifier.",)

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``features.3``, ``features.5`` and the last of ``features``."""
        return tap(self.features, (3, 5, len(self.features) - 1), x)
