"""Space-to-depth: halve the resolution without computing or losing anything.

SPD-Conv (Sunkara and Luo, 2022): the four phases of the picture become channels, so that the convolution behind it
sees every pixel of a small object. Exported, the two are one strided convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SpaceToDepth"]


class SpaceToDepth(nn.Module):
    """Phases (row, column) even/even, odd/even, even/odd, odd/odd, concatenated; no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 4 C, H / 2, W / 2); H and W are even."""
        n, c, h, w = x.shape
        # One copy, and channels-last stays so: in training, four slices and a concatenation cost thrice as much.
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 5, 3, 1)
        return blocks.reshape(n, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2)
