"""DLA-34 (Yu et al., "Deep Layer Aggregation", 2018) with the authors' keys: trees whose roots join what came before.

Where a tree has two levels, the official code also makes a projection that never runs; it is not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["UNUSED", "Dla34", "read_dla34"]

DEPTHS = (1, 2, 2, 1)
"""Levels of the trees of level2 to level5."""
UNUSED = ("base.fc.", "base.level3.project.", "base.level4.project.")
"""Tensors of official files that no forward reads."""


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(y + residual)
        return out


class _Root(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv(torch.cat(list(parts), dim=1))))
        return out


class _Tree(nn.Module):
    """Two blocks and a root, or two trees of which the second one's root joins the first one's too."""

    def __init__(self, levels: int, c_in: int, c_out: int, stride: int, *, level_root: bool, root: int = 0) -> None:
        super().__init__()
        self.levels = levels
        self.level_root = level_root
        root = (root or 2 * c_out) + (c_in if level_root else 0)
        self.downsample: nn.Module = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        self.project: nn.Module = nn.Identity()
        if levels == 1:
            if c_in != c_out:
                self.project = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
            self.tree1: nn.Module = _Block(c_in, c_out, stride)
            self.tree2: nn.Module = _Block(c_out, c_out, 1)
            self.root = _Root(root, c_out)
        else:
            self.tree1 = _Tree(levels - 1, c_in, c_out, stride, level_root=False)
            self.tree2 = _Tree(levels - 1, c_out, c_out, 1, level_root=False, root=root + c_out)

    def forward(self, x: Tensor, children: Sequence[Tensor] = ()) -> Tensor:
        children = list(children)
        bottom = self.downsample(x) if self.level_root or self.levels == 1 else x
        if self.level_root:
            children.append(bottom)
        if self.levels > 1:
            first = self.tree1(x)
            second: Tensor = self.tree2(first, [*children, first])
            return second
        one = self.tree1(x, self.project(bottom))
        two = self.tree2(one, one)
        out: Tensor = self.root([two, one, *children])
        return out


def _cell(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class Dla34(nn.Module):
    """The network without its classifier."""

    def __init__(self, channels: Sequence[int]) -> None:
        """Build for the channels of level0 to level5."""
        super().__init__()
        self.base_layer = _cell(3, channels[0], 7, 1)
        self.level0 = _cell(channels[0], channels[0], 3, 1)
        self.level1 = _cell(channels[0], channels[1], 3, 2)
        for i, depth in enumerate(DEPTHS, start=2):
            tree = _Tree(depth, channels[i - 1], channels[i], 2, level_root=i > 2)
            self.add_module(f"level{i}", tree)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of level2 to level5, at strides 4, 8, 16 and 32."""
        x = self.level1(self.level0(self.base_layer(x)))
        found: list[Tensor] = []
        for i in (2, 3, 4, 5):
            x = self.get_submodule(f"level{i}")(x)
            found.append(x)
        return found


def read_dla34(tensors: Mapping[str, Tensor], prefix: str) -> tuple[int, ...] | None:
    """Return the channels of level0 to level5 under a prefix; None where a level is not there."""
    names = ["level0.0", "level1.0", "level2.root.conv", "level3.tree2.root.conv", "level4.tree2.root.conv"]
    keys = [f"{prefix}{name}.weight" for name in (*names, "level5.root.conv")]
    return None if any(key not in tensors for key in keys) else tuple(len(tensors[key]) for key in keys)
