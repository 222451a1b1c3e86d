"""ShuffleNetV1 (Zhang et al., 2018) with the keys of the authors' release (Megvii's ShuffleNet-Series)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, tap
from edgedet_models.layers.channel_shuffle import ChannelShuffle
from edgedet_runtime.errors import CheckpointError

__all__ = ["ShuffleNetV1"]

GROUPS = 3
"""The number of groups that the paper's comparison and most releases use."""
STAGES: Mapping[float, tuple[int, int, int, int]] = {
    0.5: (12, 120, 240, 480),
    1.0: (24, 240, 480, 960),
    1.5: (24, 360, 720, 1440),
    2.0: (48, 480, 960, 1920),
}
"""Channels of the stem and the three stages, by width, for three groups."""
REPEATS = (4, 8, 4)


class ShuffleUnit(nn.Module):
    """Grouped 1×1, depthwise 3×3, shuffle, grouped 1×1; keys ``branch_main_1.<i>`` and ``branch_main_2.<i>``.

    The input is added, or at stride 2 pooled and concatenated.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, *, first: bool) -> None:
        """Build; in the network's `first` unit the first convolution is not grouped."""
        super().__init__()
        hidden = c_out // 4
        computed = c_out - c_in if stride == 2 else c_out
        self.branch_main_1 = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, groups=1 if first else GROUPS, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
        )
        # The release reads the channels as (C / groups, groups), not (groups, C / groups) as the paper says.
        self.shuffle = ChannelShuffle(hidden // GROUPS)
        self.branch_main_2 = nn.Sequential(
            nn.Conv2d(hidden, computed, 1, groups=GROUPS, bias=False), nn.BatchNorm2d(computed)
        )
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y = self.branch_main_2(self.shuffle(self.branch_main_1(x)))
        if self.pool is not None:
            return torch.cat((self.pool(x), self.act(y)), dim=1)
        out: Tensor = self.act(x + y)
        return out


class ShuffleNetV1(Backbone):
    """Grouped 1×1 convolutions, with a shuffle so that the groups hear of each other."""

    def __init__(self, width: float = 1.0) -> None:
        """Build.

        Raises:
            CheckpointError: `width` is none of the published ones; the channels were chosen for each.
        """
        super().__init__()
        if width not in STAGES:
            raise CheckpointError(f"ShuffleNetV1: expected a width of {', '.join(map(str, STAGES))}, got {width}")
        c, *stages = STAGES[width]
        self.first_conv = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.features = nn.Sequential()
        for c_out, repeats in zip(stages, REPEATS, strict=True):
            for i in range(repeats):
                self.features.append(ShuffleUnit(c, c_out, 2 if i == 0 else 1, first=len(self.features) == 0))
                c = c_out
        self.channels = (stages[0], stages[1], stages[2])

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of the three stages, ``features.3``, ``features.11`` and ``features.15``."""
        return tap(self.features, (3, 11, 15), self.maxpool(self.first_conv(x)))
