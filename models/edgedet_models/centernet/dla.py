"""CenterNet on DLA-34 with plain convolutions (the authors' ``dlav0_34``): iterative deep aggregation to stride 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedet_models.backbones.dla import Dla34, read_dla34
from edgedet_models.centernet.network import centernet_head, centernet_spec
from edgedet_models.detector import DetectorModule

__all__ = ["CenterNetDla", "DlaShape", "read_dla_centernet"]


@dataclass(frozen=True, slots=True)
class DlaShape:
    """What distinguishes one of these from another.

    Attributes:
        channels: Of the six levels of the DLA-34.
        head: Channels of the heads' 3×3 convolution; 0 where a head is one 1×1 convolution.
        offsets: Whether there is a head for where a center lies within its cell.
    """

    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    head: int = 256
    offsets: bool = True


class _Up(nn.Module):
    """Bring maps to the first one's channels and size, and join them one after the other."""

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.count = len(channels)
        for i, c in enumerate(channels[1:], start=1):
            proj = nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            node = nn.Sequential(nn.Conv2d(2 * width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            self.add_module(f"proj_{i}", proj)
            self.add_module(f"up_{i}", nn.ConvTranspose2d(width, width, 4, 2, 1, groups=width, bias=False))
            self.add_module(f"node_{i}", node)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        joined: list[Tensor] = []
        x = maps[0]
        for i in range(1, self.count):
            other = self.get_submodule(f"up_{i}")(self.get_submodule(f"proj_{i}")(maps[i]))
            x = self.get_submodule(f"node_{i}")(torch.cat((x, other), dim=1))
            joined.append(x)
        return joined


class _DlaUp(nn.Module):
    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = list(channels)
        self.count = len(widths) - 1
        for i in range(self.count):
            first = self.count - 1 - i
            self.add_module(f"ida_{i}", _Up(widths[first], widths[first:]))
            widths[first + 1 :] = [widths[first]] * (self.count - first)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        maps = list(maps)
        for i in range(self.count):
            first = self.count - 1 - i
            maps[first + 1 :] = self.get_submodule(f"ida_{i}")(maps[first:])
        return maps[-1]


class CenterNetDla(DetectorModule):
    """The detector."""

    def __init__(self, variant: str, shape: DlaShape, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(centernet_spec(variant, classes, offsets=shape.offsets))
        self.stride = 32
        self.base = Dla34(shape.channels)
        self.dla_up = _DlaUp(shape.channels[2:])
        c = shape.channels[2]
        self.hm = centernet_head(c, shape.head, len(classes))
        self.wh = centernet_head(c, shape.head, 2)
        self.reg: nn.Module | None = centernet_head(c, shape.head, 2) if shape.offsets else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return offset and size (N, 4, h, w) in cells, and class logits (N, classes, h, w)."""
        x = self.dla_up(self.base(x))
        size = self.wh(x)
        offset = torch.zeros_like(size) if self.reg is None else self.reg(x)
        return torch.cat((offset, size), dim=1), self.hm(x)


def read_dla_centernet(tensors: Mapping[str, Tensor]) -> DlaShape | None:
    """Read the shape off the tensors; None where the DLA is not there."""
    channels = read_dla34(tensors, "base.")
    head = tensors.get("hm.0.weight")
    offsets = "reg.2.weight" in tensors or "reg.weight" in tensors
    return None if channels is None else DlaShape(channels, 0 if head is None else len(head), offsets)
