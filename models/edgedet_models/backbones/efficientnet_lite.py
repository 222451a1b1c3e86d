"""EfficientNet-lite0 with the keys of timm's ``efficientnet_lite0``.

B0 without what quantises badly or runs slowly on small devices: no gates, ReLU6 for SiLU, a stem that does not scale.
Google's announcement "Higher accuracy on vision models with EfficientNet-Lite", 2020.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap
from edgedet_models.backbones.efficientnet import STAGES, STEM_CHANNELS
from edgedet_models.backbones.separable import Separable

__all__ = ["EfficientNetLite"]


class InvertedResidual(nn.Module):
    """Widen (``conv_pw``, ``bn1``), filter (``conv_dw``, ``bn2``), narrow linearly (``conv_pwl``, ``bn3``)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        """Build."""
        super().__init__()
        hidden = round_channels(c_in * expansion)
        self.conv_pw = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act1 = nn.ReLU6()
        self.conv_dw = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.act2 = nn.ReLU6()
        self.conv_pwl = nn.Conv2d(hidden, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.act1(self.bn1(self.conv_pw(x)))
        y = self.act2(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.shortcut else y


class EfficientNetLite(Backbone):
    """Lite0, scaled in width alone; the stem keeps its 32 channels."""

    def __init__(self, width: float = 1.0) -> None:
        """Build with `width` times the published channels."""
        super().__init__()
        c = STEM_CHANNELS
        self.conv_stem = nn.Conv2d(3, c, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.act = nn.ReLU6()
        self.blocks = nn.Sequential()
        ends: list[int] = []
        for expansion, kernel, stride, channels, repeats in STAGES:
            c_out = round_channels(channels * width)
            stage = nn.Sequential()
            for i in range(repeats):
                s = stride if i == 0 else 1
                stage.append(
                    Separable(c, c_out, kernel, s, act="relu6", linear=True)
                    if expansion == 1
                    else InvertedResidual(c, c_out, kernel, s, expansion)
                )
                c = c_out
            self.blocks.append(stage)
            ends.append(c)
        self.channels = (ends[2], ends[4], ends[6])
        self.classifier = ("classifier.", "conv_head.", "bn2.")

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``blocks.2``, ``blocks.4`` and ``blocks.6``."""
        return tap(self.blocks, (2, 4, 6), self.act(self.bn1(self.conv_stem(x))))
