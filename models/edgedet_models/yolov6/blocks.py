"""YOLOv6's blocks, with the official key names. Li et al., "YOLOv6 v3.0: A Full-Scale Reloading", arXiv:2301.05586."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.spp import pool_chain
from edgedet_models.yolov6.composite import Composite, PartsError

__all__ = [
    "BepC3",
    "BiFusion",
    "BottleRep",
    "CspSppf",
    "MblaBlock",
    "RealVgg",
    "RepBlock",
    "Sppf",
    "Transpose",
    "Wrapped",
]


class Wrapped(Composite):
    """A cell, SPPF or CSPSPPF inside one more module, as the official classes ConvBNReLU, SimSPPF … have it."""

    block: nn.Module | None
    sppf: nn.Module | None
    cspsppf: nn.Module | None

    def __init__(self, **parts: nn.Module) -> None:
        """Keep the part.

        Raises:
            PartsError: There is not exactly one.
        """
        if len(parts) != 1:
            raise PartsError(f"expected one submodule, got {', '.join(parts) or 'none'}")
        super().__init__(**parts)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the part that there is."""
        for part in (self.block, self.sppf, self.cspsppf):
            if part is not None:
                x = part(x)
        return x


class RepBlock(Composite):
    """``conv1`` and then, where there are more than one, the others in ``block``."""

    conv1: nn.Module
    block: nn.Module | None

    def forward(self, x: Tensor) -> Tensor:
        """Apply all blocks in sequence."""
        x = self.conv1(x)
        return x if self.block is None else self.block(x)


class BottleRep(Composite):
    """Two blocks (three in ``BottleRep3``) and a shortcut, weighted by a learned number where there is one."""

    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module | None
    alpha: Tensor | float
    shortcut: bool

    def __init__(self, *, alpha: nn.Parameter | float, shortcut: bool, **parts: nn.Module) -> None:
        """Keep the parts and the weight of the shortcut."""
        super().__init__(**parts)
        self.alpha = alpha
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same height and width."""
        y: Tensor = self.conv2(self.conv1(x))
        if self.conv3 is not None:
            y = self.conv3(y)
        return y + self.alpha * x if self.shortcut else y


class BepC3(Composite):
    """Cross-stage partial block around a RepBlock of BottleReps; without ``cv2`` in the form that skips the stage."""

    m: nn.Module
    cv1: nn.Module
    cv2: nn.Module | None
    cv3: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        y: Tensor = self.m(self.cv1(x))
        if self.cv2 is not None:
            y = torch.cat((y, self.cv2(x)), dim=1)
        out: Tensor = self.cv3(y)
        return out


class MblaBlock(Composite):
    """Multi-branch block of YOLOv6 v4: channels split into branches, of which all but the first go on."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        sequences = list(self.m.children())
        first, *branches = self.cv1(x).chunk(len(sequences) + 1, dim=1)
        kept = [first]
        for branch, sequence in zip(branches, sequences, strict=True):
            kept.append(branch)
            for block in sequence.children():
                kept.append(block(kept[-1]))
        out: Tensor = self.cv2(torch.cat(kept, dim=1))
        return out


class Sppf(Composite):
    """Spatial pyramid pooling by one pool, three times."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        out: Tensor = self.cv2(pool_chain(self.cv1(x), self.m))
        return out


class CspSppf(Composite):
    """SPPF between convolutions, beside a shortcut."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    cv4: nn.Module
    cv5: nn.Module
    cv6: nn.Module
    cv7: nn.Module
    m: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        pooled = pool_chain(self.cv4(self.cv3(self.cv1(x))), self.m)
        out: Tensor = self.cv7(torch.cat((self.cv2(x), self.cv6(self.cv5(pooled))), dim=1))
        return out


class Transpose(Composite):
    """Doubling of height and width by a transposed convolution."""

    upsample_transpose: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 2 H, 2 W)."""
        out: Tensor = self.upsample_transpose(x)
        return out


class BiFusion(Composite):
    """Meeting of a coarser, an equal and a finer feature."""

    cv1: nn.Module
    cv2: nn.Module
    cv3: nn.Module
    upsample: nn.Module
    downsample: nn.Module

    def forward(self, coarse: Tensor, equal: Tensor, fine: Tensor) -> Tensor:
        """Map (N, C, H / 2, W / 2), (N, C', H, W) and (N, C'', 2 H, 2 W) to (N, C, H, W)."""
        parts = (self.upsample(coarse), self.cv1(equal), self.downsample(self.cv2(fine)))
        out: Tensor = self.cv3(torch.cat(parts, dim=1))
        return out


class RealVgg(Composite):
    """RealVGGBlock, the plain cell of RepOptimizer's training: convolution, BatchNorm, ReLU."""

    conv: nn.Module
    bn: nn.Module | None
    relu: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H', W')."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        out: Tensor = self.relu(x)
        return out
