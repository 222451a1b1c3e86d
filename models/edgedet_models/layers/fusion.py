"""YOLOv9's composite backbone (CBNet): one backbone's features are added into another's, level by level.

Liang et al., "CBNet: A Composite Backbone Network Architecture for Object Detection", 2022; the parts are called
CBLinear and CBFuse.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FusePicks", "SplitLinear"]


class SplitLinear(nn.Module):
    """A convolution whose output channels are several features, one for each level."""

    conv: nn.Module
    widths: tuple[int, ...]

    def __init__(self, c_in: int, widths: Sequence[int]) -> None:
        """Build for features of `widths` channels."""
        super().__init__()
        self.widths = tuple(widths)
        self.conv = nn.Conv2d(c_in, sum(widths), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (N, c_in, H, W) to one (N, C_i, H, W) per feature."""
        out: tuple[Tensor, ...] = self.conv(x).split(self.widths, dim=1)
        return out


class FusePicks(nn.Module):
    """Add one feature of each `SplitLinear`, brought to the size of the last input, to the last input."""

    picks: tuple[int, ...]

    def __init__(self, picks: Sequence[int]) -> None:
        """Keep which feature of each input is taken."""
        super().__init__()
        self.picks = tuple(picks)

    def forward(self, xs: Sequence[Sequence[Tensor] | Tensor]) -> Tensor:
        """Map features per input, and (N, C, H, W) last, to (N, C, H, W)."""
        *features, total = xs
        if not isinstance(total, Tensor) or any(isinstance(feature, Tensor) for feature in features):
            raise TypeError("expected several features per input and one tensor last")
        size = tuple(int(side) for side in total.shape[2:])
        for pick, feature in zip(self.picks, features, strict=True):
            total = total + functional.interpolate(feature[pick], size=size, mode="nearest")
        return total
