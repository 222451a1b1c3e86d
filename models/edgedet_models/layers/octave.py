"""Octave convolution (Chen et al., "Drop an Octave", 2019): a share of the channels lives at half the resolution.

Each output octave is the sum of a convolution of its own octave and one of the other, pooled or enlarged. BatchNorm
stands behind each convolution, not behind their sum: so it folds away, and enlarging commutes with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["C3Octave", "OctaveConv"]

LOW_SHARE = 0.5
Octaves = tuple[Tensor, Tensor]


def _cell(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=1e-3))


class OctaveConv(nn.Module):
    """From two octaves to two; keys ``high_high``, ``high_low``, ``low_high``, ``low_low``."""

    def __init__(self, high: int, low: int, kernel: int) -> None:
        """Build with `high` channels at full and `low` at half resolution, in and out."""
        super().__init__()
        self.high_high = _cell(high, high, kernel)
        self.high_low = _cell(high, low, kernel)
        self.low_high = _cell(low, high, kernel)
        self.low_low = _cell(low, low, kernel)
        self.down = nn.AvgPool2d(2)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.act = nn.SiLU()

    def forward(self, octaves: Octaves) -> Octaves:
        """Map (N, high, H, W) and (N, low, H / 2, W / 2) to the same shapes."""
        high, low = octaves
        fine = self.high_high(high) + self.up(self.low_high(low))
        coarse = self.low_low(low) + self.high_low(self.down(high))
        return self.act(fine), self.act(coarse)


class _Residual(nn.Module):
    """A 1×1 and a 3×3 octave convolution, and their input."""

    def __init__(self, high: int, low: int, *, add: bool) -> None:
        super().__init__()
        self.narrow = OctaveConv(high, low, 1)
        self.filter = OctaveConv(high, low, 3)
        self.add = add

    def forward(self, octaves: Octaves) -> Octaves:
        fine, coarse = self.filter(self.narrow(octaves))
        return (octaves[0] + fine, octaves[1] + coarse) if self.add else (fine, coarse)


class C3Octave(nn.Module):
    """YOLOv5's C3 with octave convolutions in its residual cells; height and width must be even.

    Keys: ``enter_high``, ``enter_low``, ``cells.<i>``, ``passed``, ``leave``.
    """

    def __init__(self, c_in: int, c_out: int, repeats: int, *, add: bool) -> None:
        """Build with half the output channels inside, `LOW_SHARE` of them at half the resolution."""
        super().__init__()
        hidden = c_out // 2
        low = int(hidden * LOW_SHARE)
        self.enter_high = _cell(c_in, hidden - low, 1)
        self.enter_low = _cell(c_in, low, 1)
        self.cells = nn.Sequential(*(_Residual(hidden - low, low, add=add) for _ in range(repeats)))
        self.passed = _cell(c_in, hidden, 1)
        self.leave = _cell(2 * hidden, c_out, 1)
        self.down = nn.AvgPool2d(2)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        octaves = self.act(self.enter_high(x)), self.act(self.enter_low(self.down(x)))
        high, low = self.cells(octaves)
        joined = torch.cat((high, self.up(low), self.act(self.passed(x))), dim=1)
        out: Tensor = self.act(self.leave(joined))
        return out
