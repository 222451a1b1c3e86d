"""The inverted bottleneck of DAMO-YOLO's nano models, MobileNetV3's with SiLU-like activations throughout.

Howard et al., "Searching for MobileNetV3", 2019: widen by a 1×1 convolution, filter each channel, gate the channels
(squeeze and excitation), narrow again without activation.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.layers.activation import activation

__all__ = ["MobileBlock", "SqueezeExcite"]


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channel means; keys ``fc.0`` and ``fc.2``."""

    def __init__(self, channels: int, hidden: int) -> None:
        """Build with `hidden` channels between the two linear layers."""
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        gate: Tensor = self.fc(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None]


class MobileBlock(nn.Module):
    """Widen, filter, gate, narrow; added to the input where stride and channels allow it.

    Keys: ``conv.0`` … ``conv.8`` with a slot for the gate, else ``conv.0`` … ``conv.7``.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        hidden: int,
        kernel: int = 5,
        stride: int = 1,
        *,
        gate: int | None = None,
        act: str = "silu",
    ) -> None:
        """Build; `gate` is None without a slot, 0 for an empty one, else the gate's inner channels."""
        super().__init__()
        slot: list[nn.Module] = []
        if gate is not None:
            slot = [SqueezeExcite(hidden, gate) if gate else nn.Identity()]
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden, eps=1e-3),
            activation(act),
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden, eps=1e-3),
            *slot,
            activation(act),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out, eps=1e-3),
        )
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y
