"""Space-to-depth: halve the resolution without computing or losing anything.

SPD-Conv (Sunkara and Luo, 2022): the four phases of the picture become channels, so that the convolution behind it
sees every pixel of a small object. Exported, the two are one strided convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SpaceToDepth"]


class SpaceToDepth(nn.Module):
    """Phases (row, column) even/even, odd/even, even/odd, odd/odd, concatenated; no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 4 C, H / 2, W / 2); H and W are even."""
        phases = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return torch.cat(phases, dim=1)
