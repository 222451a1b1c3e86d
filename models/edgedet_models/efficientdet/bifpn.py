"""BiFPN (Tan et al. 2020, section 3): maps joined top down, then bottom up, in cells that repeat.

Eight nodes a cell. d versions weigh the inputs of a node, ``relu(w) / (sum(relu(w)) + 1e-4)``, which are constants once
training is over; lite versions add them. Coarser maps come by max pooling, finer ones by repetition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.efficientdet.backbone import conv, down
from edgedet_models.layers.activation import activation

__all__ = ["BiFpn", "SeparableConv"]

EPS = 1e-3
NODES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (3, 4)),
    (2, (2, 5)),
    (1, (1, 6)),
    (0, (0, 7)),
    (1, (1, 7, 8)),
    (2, (2, 6, 9)),
    (3, (3, 5, 10)),
    (4, (4, 11)),
)
"""Level of each node (0 is P3), and the maps that it joins: 0 to 4 come in, 5 and so on are the nodes' own."""
OUTPUTS = (8, 9, 10, 11, 12)


class SeparableConv(nn.Module):
    """``conv_dw``, ``conv_pw``, and ``bn`` where there is one; no activation."""

    def __init__(self, c_in: int, c_out: int, *, bias: bool, norm: bool = True) -> None:
        """Build; the bias is the 1×1 convolution's."""
        super().__init__()
        self.conv_dw = conv(c_in, c_in, 3, groups=c_in)
        self.conv_pw = nn.Conv2d(c_in, c_out, 1, bias=bias)
        self.bn: nn.Module = nn.BatchNorm2d(c_out, eps=EPS) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        out: Tensor = self.bn(self.conv_pw(self.conv_dw(x)))
        return out


class _ConvBn(nn.Module):
    def __init__(self, c_in: int, c_out: int, *, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=bias)
        self.bn = nn.BatchNorm2d(c_out, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class _Resample(nn.Module):
    """A 1×1 convolution where the channels change (``conv``), then up or down by levels."""

    def __init__(self, c_in: int, c_out: int, levels: int, *, tf: bool) -> None:
        super().__init__()
        self.conv: nn.Module = _ConvBn(c_in, c_out, bias=tf) if c_in != c_out else nn.Identity()
        self.levels = levels
        self.down = down(same=tf)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.levels < 0:
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.down(x) if self.levels > 0 else x


class _Combine(nn.Module):
    def __init__(
        self, inputs: Sequence[int], levels: Sequence[int], channels: Sequence[int], width: int, level: int,
        *, fast: bool, tf: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inputs = tuple(inputs)
        self.resample = nn.ModuleDict(
            {str(i): _Resample(channels[i], width, level - levels[i], tf=tf) for i in self.inputs}
        )
        self.register_parameter("edge_weights", None)
        if fast:
            self.edge_weights = nn.Parameter(torch.ones(len(self.inputs)))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        some: list[Tensor] = [self.resample[str(i)](maps[i]) for i in self.inputs]
        if self.edge_weights is not None:
            weights = functional.relu(self.edge_weights)
            weights = weights / (weights.sum() + 1e-4)
            some = [x * weights[i] for i, x in enumerate(some)]
        return sum(some[1:], some[0])


class _After(nn.Module):
    def __init__(self, width: int, *, act: str, tf: bool) -> None:
        super().__init__()
        self.act = activation(act)
        self.conv = SeparableConv(width, width, bias=tf)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.act(x))
        return out


class _Node(nn.Module):
    def __init__(self, combine: _Combine, after: _After) -> None:
        super().__init__()
        self.combine = combine
        self.after_combine = after


class _Cell(nn.Module):
    def __init__(self, channels: Sequence[int], width: int, *, fast: bool, act: str, tf: bool) -> None:
        super().__init__()
        self.fnode = nn.ModuleList()
        levels, known = [0, 1, 2, 3, 4], list(channels)
        for level, inputs in NODES:
            combine = _Combine(inputs, levels, known, width, level, fast=fast, tf=tf)
            self.fnode.append(_Node(combine, _After(width, act=act, tf=tf)))
            levels.append(level)
            known.append(width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        known = list(maps)
        for node in self.fnode:
            assert isinstance(node, _Node), "built so"
            known.append(node.after_combine(node.combine(known)))
        return [known[i] for i in OUTPUTS]


class BiFpn(nn.Module):
    """P6 and P7 from the coarsest map, then the cells; keys ``resample.3`` and ``cell.<i>.fnode.<k>``."""

    def __init__(self, channels: Sequence[int], width: int, cells: int, *, fast: bool, act: str, tf: bool) -> None:
        """Build.

        Args:
            channels: Of the three maps that come in.
            width: Of those that go out.
            cells: How often.
            fast: Whether inputs are weighed.
            act: Key of `ACTIVATIONS`.
            tf: Whether the weights come from TensorFlow: its paddings, and biases before BatchNorms.
        """
        super().__init__()
        more = {"3": _Resample(channels[-1], width, 1, tf=tf), "4": _Resample(width, width, 1, tf=tf)}
        self.resample = nn.ModuleDict(more)
        first = (*channels, width, width)
        self.cell = nn.ModuleList(
            _Cell(first if i == 0 else [width] * 5, width, fast=fast, act=act, tf=tf) for i in range(cells)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return P3 to P7."""
        p6 = self.resample["3"](features[-1])
        maps = [*features, p6, self.resample["4"](p6)]
        for cell in self.cell:
            maps = cell(maps)
        return maps
