"""GhostNet (Han et al., "GhostNet: More Features from Cheap Operations", 2020), keys of timm and of the authors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgedet_models.backbones.backbone import Backbone, Features, round_channels, tap
from edgedet_models.layers.activation import activation
from edgedet_models.layers.squeeze_excite import ChannelGate

__all__ = ["GhostBottleneck", "GhostNet"]

STAGES: tuple[tuple[tuple[int, int, int, bool, int], ...], ...] = (
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2),),
    ((3, 72, 24, False, 1),),
    ((5, 72, 40, True, 2),),
    ((5, 120, 40, True, 1),),
    ((3, 240, 80, False, 2),),
    (
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
    ),
    ((5, 672, 160, True, 2),),
    ((5, 960, 160, False, 1), (5, 960, 160, True, 1), (5, 960, 160, False, 1), (5, 960, 160, True, 1)),
)
"""Table 1 of the paper: kernel, inner channels, output channels, gate, stride."""


class GhostModule(nn.Module):
    """Half of the channels by a 1×1 convolution (``primary_conv``), the rest by a depthwise 3×3 of those.

    The second is called ``cheap_operation``.
    """

    def __init__(self, c_in: int, c_out: int, *, act: str) -> None:
        """Build; `act` is a key of `ACTIVATIONS`. With an odd `c_out`, the last channel that comes out is dropped."""
        super().__init__()
        primary = math.ceil(c_out / 2)
        self.primary_conv = nn.Sequential(
            nn.Conv2d(c_in, primary, 1, bias=False), nn.BatchNorm2d(primary), activation(act)
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(primary, primary, 3, padding=1, groups=primary, bias=False),
            nn.BatchNorm2d(primary),
            activation(act),
        )
        self.c_out = c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y = self.primary_conv(x)
        out = torch.cat((y, self.cheap_operation(y)), dim=1)
        return out if self.c_out % 2 == 0 else out[:, : self.c_out]


class GhostBottleneck(nn.Module):
    """Widen by a ghost module (``ghost1``), filter where strided, gate (``se``), narrow by another (``ghost2``)."""

    def __init__(
        self, c_in: int, hidden: int, c_out: int, kernel: int, stride: int, *, gate: bool, act: str = "relu"
    ) -> None:
        """Build; `act` follows ``ghost1`` alone. The shortcut is the identity where the shape is kept."""
        super().__init__()
        self.ghost1 = GhostModule(c_in, hidden, act=act)
        self.strided = stride > 1
        if self.strided:
            self.conv_dw = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
            self.bn_dw = nn.BatchNorm2d(hidden)
        self.se: nn.Module = nn.Identity()
        if gate:
            reduced = round_channels(hidden / 4, 4)
            self.se = ChannelGate(hidden, reduced, gate="hardsigmoid", keys=("conv_reduce", "conv_expand"))
        self.ghost2 = GhostModule(hidden, c_out, act="identity")
        self.shortcut: nn.Module = nn.Identity()
        if self.strided or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False),
                nn.BatchNorm2d(c_in),
                nn.Conv2d(c_in, c_out, 1, bias=False),
                nn.BatchNorm2d(c_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y = self.ghost1(x)
        if self.strided:
            y = self.bn_dw(self.conv_dw(y))
        out: Tensor = self.ghost2(self.se(y)) + self.shortcut(x)
        return out


class GhostNet(Backbone):
    """MobileNetV3 large with ghost modules for its 1×1 convolutions."""

    def __init__(self, width: float = 1.0) -> None:
        """Build with `width` times the published channels."""
        super().__init__()
        c = round_channels(16 * width, 4)
        self.conv_stem = nn.Conv2d(3, c, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.act = nn.ReLU()
        self.blocks = nn.Sequential()
        ends: list[int] = []
        for blocks in STAGES:
            stage = nn.Sequential()
            for kernel, hidden, channels, gate, stride in blocks:
                c_out = round_channels(channels * width, 4)
                stage.append(GhostBottleneck(c, round_channels(hidden * width, 4), c_out, kernel, stride, gate=gate))
                c = c_out
            self.blocks.append(stage)
            ends.append(c)
        self.channels = (ends[4], ends[6], ends[8])
        self.classifier = ("classifier.", "conv_head.", "blocks.9.")

    def forward(self, x: Tensor) -> Features:
        """Return the outputs of ``blocks.4``, ``blocks.6`` and ``blocks.8``."""
        return tap(self.blocks, (4, 6, 8), self.act(self.bn1(self.conv_stem(x))))
