"""MobileNetV1 (Howard et al., "MobileNets", 2017) with the keys of timm's ``mobilenetv1_100``."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap
from edgedet_models.backbones.separable import Separable

__all__ = ["MobileNetV1"]

STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
"""Channels, blocks and stride of the first one."""


class MobileNetV1(Backbone):
    """Nothing but depthwise-separable convolutions; ReLU6, as timm has it."""

    def __init__(self, width: float = 1.0) -> None:
        """Build with `width` times the published channels."""
        super().__init__()
        c = round_channels(32 * width)
        self.conv_stem = nn.Conv2d(3, c, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.act = nn.ReLU6()
        self.blocks = nn.Sequential()
        for channels, repeats, stride in STAGES:
            c_out = round_channels(channels * width)
            stage = nn.Sequential()
            for i in range(repeats):
                stage.append(Separable(c, c_out, 3, stride if i == 0 else 1, act="relu6"))
                c = c_out
            self.blocks.append(stage)
        widths = [round_channels(channels * width) for channels, _, _ in STAGES]
        self.channels = (widths[2], widths[3], widths[4])

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``blocks.2``, ``blocks.3`` and ``blocks.4``."""
        return tap(self.blocks, (2, 3, 4), self.act(self.bn1(self.conv_stem(x))))
