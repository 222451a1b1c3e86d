"""SqueezeNet 1.1 (Iandola et al., 2016) with torchvision's keys, and a stage at stride 32 that it lacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features

__all__ = ["SqueezeNet"]


class Fire(nn.Module):
    """Narrow by 1×1 (``squeeze``), widen by 1×1 and 3×3 side by side (``expand1x1``, ``expand3x3``)."""

    def __init__(self, c_in: int, squeeze: int, expand: int) -> None:
        """Build with ``2 * expand`` output channels."""
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, 2 expand, H, W)."""
        x = self.act(self.squeeze(x))
        out: Tensor = self.act(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))
        return out


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class SqueezeNet(Backbone):
    """Fire modules without BatchNorm.

    Published, it ends at stride 16; ``extra`` is one more pool and Fire module, which no published weights have. Its
    stem has no padding, so that features of 96×128 pixels are 11×15 at stride 8; a detector's pyramid needs 12×16,
    which a padding of 1 gives with the same weights.
    """

    def __init__(self, *, padding: int = 1) -> None:
        """Build with the stem's padding: 1 for detectors, 0 as published."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2, padding),
            nn.ReLU(),
            _pool(),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            _pool(),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            _pool(),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.extra = nn.Sequential(_pool(), Fire(512, 64, 256))
        self.channels = (256, 512, 512)
        self.added = ("extra.",)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # without BatchNorm, the initial scale must carry the signal through
                nn.init.kaiming_uniform_(layer.weight)
                assert layer.bias is not None, "built with one"
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``features.7``, ``features.12`` and ``extra``."""
        fine: Tensor = self.features[:8](x)
        middle: Tensor = self.features[8:](fine)
        return fine, middle, self.extra(middle)
