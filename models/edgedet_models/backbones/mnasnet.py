"""MnasNet-B1 with torchvision's keys.

Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", 2019.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap

__all__ = ["MnasNet"]

STAGES = ((24, 3, 2, 3, 3), (40, 5, 2, 3, 3), (80, 5, 2, 6, 3), (96, 3, 1, 6, 2), (192, 5, 2, 6, 4), (320, 3, 1, 6, 1))
"""Channels, kernel, stride of the first block, expansion, blocks."""
HEAD_CHANNELS = 1280


def _cells(c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(c_out)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; keys ``layers.<i>``."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        """Build."""
        super().__init__()
        hidden = c_in * expansion
        self.layers = nn.Sequential(
            *_cells(c_in, hidden, 1),
            nn.ReLU(),
            *_cells(hidden, hidden, kernel, stride, groups=hidden),
            nn.ReLU(),
            *_cells(hidden, c_out, 1),
        )
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MnasNet(Backbone):
    """Inverted residuals whose kernels and expansions were searched for latency on a phone.

    The stem scales with the width, as in torchvision's second version of the architecture; its first had 32 and 16
    channels there at any width, which differs from this one at widths other than 1.
    """

    def __init__(self, width: float = 1.0, *, head: bool = False) -> None:
        """Build.

        Args:
            width: Factor on the published channels.
            head: Whether to end in the 1×1 convolution that widens the last features for the classifier.
        """
        super().__init__()
        stem, c = round_channels(32 * width), round_channels(16 * width)
        self.layers = nn.Sequential(
            *_cells(3, stem, 3, 2), nn.ReLU(), *_cells(stem, stem, 3, groups=stem), nn.ReLU(), *_cells(stem, c, 1)
        )
        ends: list[int] = []
        for channels, kernel, stride, expansion, repeats in STAGES:
            c_out = round_channels(channels * width)
            blocks = [
                InvertedResidual(c if i == 0 else c_out, c_out, kernel, stride if i == 0 else 1, expansion)
                for i in range(repeats)
            ]
            self.layers.append(nn.Sequential(*blocks))
            c = c_out
            ends.append(c)
        self.channels = (ends[1], ends[3], ends[5])
        self.classifier = ("classifier.", "layers.14.", "layers.15.")
        if head:
            self.layers.extend([*_cells(c, HEAD_CHANNELS, 1), nn.ReLU()])
            self.channels = (ends[1], ends[3], HEAD_CHANNELS)
            self.classifier = ("classifier.",)

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``layers.9``, ``layers.11`` and the last of ``layers``."""
        return tap(self.layers, (9, 11, len(self.layers) - 1), x)
