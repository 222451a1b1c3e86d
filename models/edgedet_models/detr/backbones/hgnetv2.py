"""HGNetv2 from the shapes of its weights: D-FINE's and DEIM's B0 to B5, RT-DETRv2's l and x.

Widths, kernels, depths, light cells and learned affine blocks (LAB: a scale and a bias behind an activation) are read
off the keys. Not stored, and the same in all: the strides, ReLU, and the sum in every block but a stage's first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.shapes import Shapes
from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.chain import ChannelsThenSize
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.hgnet import HgBlock, HgStem

__all__ = ["HgNetV2", "rename_hgnetv2"]

_NAMES = (
    (re.compile(r"\.blocks\.(\d+)\.layers\."), r".blocks.\1.m."),
    (re.compile(r"\.aggregation\.0\."), ".sc."),
    (re.compile(r"\.aggregation\.1\."), ".ec."),
    (re.compile(r"(\.m\.\d+)\.conv1\."), r"\1.cv1."),
    (re.compile(r"(\.m\.\d+)\.conv2\."), r"\1.cv2."),
)


def rename_hgnetv2(name: str) -> str:
    """Return this package's name of an official tensor."""
    for pattern, replacement in _NAMES:
        name = pattern.sub(replacement, name)
    return name


class Affine(nn.Module):
    """A learned scale and bias for all channels."""

    def __init__(self) -> None:
        """Start with the identity."""
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift."""
        return x * self.scale + self.bias


class AffineCell(ConvBnAct):
    """``lab(act(bn(conv(x))))``."""

    lab: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map as `ConvBnAct` does."""
        out: Tensor = self.lab(super().forward(x))
        return out


class HgNetV2(nn.Module):
    """The stem and the stages; gives the outputs of all stages."""

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        """Build for a state dict with names as `rename_hgnetv2` gives them.

        Raises:
            CheckpointError: A tensor is missing.
        """
        super().__init__()
        parts = {f"stem{part}": (stride, kernel) for part, stride, kernel in _STEM}
        cells = {
            name: _cell(shapes, f"{prefix}.stem.{name}", stride=stride, padding=0 if kernel == 2 else None)
            for name, (stride, kernel) in parts.items()
        }
        self.stem = adopt(HgStem, **cells, pool=nn.MaxPool2d(2, 1, ceil_mode=True))
        stages = shapes.count(f"{prefix}.stages")
        self.stages = nn.ModuleList(_stage(shapes, f"{prefix}.stages.{index}") for index in range(stages))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) to one feature per stage, strides 4, 8, 16, 32."""
        features = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


_STEM = (("1", 2, 3), ("2a", 1, 2), ("2b", 1, 2), ("3", 2, 3), ("4", 1, 1))
"""Parts of the stem, with stride and kernel."""


class Stage(nn.Module):
    """Blocks, behind a depthwise convolution that halves the size in all stages but the first."""

    def __init__(self, downsample: nn.Module | None, blocks: Sequence[nn.Module]) -> None:
        """Keep the parts."""
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage."""
        out: Tensor = self.blocks(x if self.downsample is None else self.downsample(x))
        return out


def _stage(shapes: Shapes, prefix: str) -> nn.Module:
    halves = shapes.has(f"{prefix}.downsample")
    downsample = _cell(shapes, f"{prefix}.downsample", stride=2, depthwise=True, act="identity") if halves else None
    blocks = [
        adopt(
            HgBlock,
            m=nn.ModuleList(
                _layer(shapes, f"{prefix}.blocks.{index}.m.{layer}")
                for layer in range(shapes.count(f"{prefix}.blocks.{index}.m"))
            ),
            sc=_cell(shapes, f"{prefix}.blocks.{index}.sc"),
            ec=_cell(shapes, f"{prefix}.blocks.{index}.ec"),
            add=index > 0,
        )
        for index in range(shapes.count(f"{prefix}.blocks"))
    ]
    return Stage(downsample, blocks)


def _layer(shapes: Shapes, prefix: str) -> nn.Module:
    if not shapes.has(f"{prefix}.cv1"):
        return _cell(shapes, prefix)
    narrow = _cell(shapes, f"{prefix}.cv1", act="identity")
    return adopt(ChannelsThenSize, cv1=narrow, cv2=_cell(shapes, f"{prefix}.cv2", depthwise=True))


def _cell(
    shapes: Shapes,
    prefix: str,
    *,
    stride: int = 1,
    padding: int | None = None,
    depthwise: bool = False,
    act: str = "relu",
) -> nn.Module:
    c_out, c_group, kernel = shapes.conv(f"{prefix}.conv")
    groups = c_out if depthwise else 1
    cell = ConvBnAct(c_group * groups, c_out, kernel, stride, groups=groups, padding=padding, act=act, eps=1e-5)
    if not shapes.has(f"{prefix}.lab"):
        return cell
    return adopt(AffineCell, conv=cell.conv, bn=cell.bn, act=cell.act, lab=Affine())
