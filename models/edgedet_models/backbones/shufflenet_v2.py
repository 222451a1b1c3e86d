"""ShuffleNetV2 (Ma et al., "Practical Guidelines for Efficient CNN Architecture Design", 2018), torchvision's keys."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features
from edgedet_models.backbones.cell import Cell
from edgedet_models.layers.activation import activation
from edgedet_models.layers.channel_shuffle import ChannelShuffle
from edgedet_runtime.errors import CheckpointError

__all__ = ["ShuffleNetV2", "ShuffleUnit"]

STAGES: Mapping[float, tuple[int, int, int, int]] = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Channels of the three stages and of ``conv5``, by width: table 5 of the paper, as torchvision has it."""
REPEATS = (4, 8, 4)
STEM_CHANNELS = 24


def _depthwise(channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return conv, nn.BatchNorm2d(channels)


def _pointwise(c_in: int, c_out: int, act: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), activation(act)


class ShuffleUnit(nn.Module):
    """Compute one half of the channels, pass the other, shuffle; at stride 2 compute both from all.

    Keys: ``branch1.<i>`` (stride 2 only) and ``branch2.<i>``.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, act: str = "relu") -> None:
        """Build; at stride 1, `c_in` and `c_out` are equal."""
        super().__init__()
        half = c_out // 2
        self.part = half
        self.split = stride == 1
        self.branch1: nn.Module = nn.Identity()
        if not self.split:
            self.branch1 = nn.Sequential(*_depthwise(c_in, stride), *_pointwise(c_in, half, act))
        self.branch2 = nn.Sequential(
            *_pointwise(half if self.split else c_in, half, act),
            *_depthwise(half, stride),
            *_pointwise(half, half, act),
        )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        passed, computed = x.split(self.part, dim=1) if self.split else (x, x)
        out: Tensor = self.shuffle(torch.cat((self.branch1(passed), self.branch2(computed)), dim=1))
        return out


class ShuffleNetV2(Backbone):
    """Equal channels in and out, no groups, no additions: made for memory access cost, not FLOPs."""

    def __init__(self, width: float = 1.0, *, head: bool = False) -> None:
        """Build.

        Args:
            width: One of the published widths.
            head: Whether to end in ``conv5``, which widens the last features for the classifier.

        Raises:
            CheckpointError: `width` is none of the published ones; the channels were chosen for each.
        """
        super().__init__()
        if width not in STAGES:
            raise CheckpointError(f"ShuffleNetV2: expected a width of {', '.join(map(str, STAGES))}, got {width}")
        *stages, c_head = STAGES[width]
        self.conv1 = Cell(3, STEM_CHANNELS, 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = STEM_CHANNELS
        for number, c_out, repeats in zip((2, 3, 4), stages, REPEATS, strict=True):
            units = [ShuffleUnit(c if i == 0 else c_out, c_out, 2 if i == 0 else 1) for i in range(repeats)]
            self.add_module(f"stage{number}", nn.Sequential(*units))
            c = c_out
        self.conv5: nn.Module = Cell(c, c_head) if head else nn.Identity()
        self.channels = (stages[0], stages[1], c_head if head else stages[2])
        self.classifier = ("fc.",) if head else ("fc.", "conv5.")

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``stage2``, ``stage3`` and ``stage4`` or ``conv5``."""
        fine = self.get_submodule("stage2")(self.maxpool(self.conv1(x)))
        middle = self.get_submodule("stage3")(fine)
        return fine, middle, self.conv5(self.get_submodule("stage4")(middle))
