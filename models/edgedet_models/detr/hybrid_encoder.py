"""The hybrid encoder of RT-DETR and D-FINE from the shapes of its weights: attention over coarse maps, then a pyramid.

Fusion stages are RepC3-like (RT-DETR: ``m``) or RepNCSPELAN4-like (D-FINE: ``cv4``); the keys tell. RT-DETR has SiLU
behind its lateral and strided cells, D-FINE nothing, and strided cells in two steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.checkpoint.shapes import Shapes
from edgedet_models.detr.encoder import EncoderLayer, OverMap
from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.chain import ChannelsThenSize
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.elan import Elan
from edgedet_models.layers.parallel import ParallelConv
from edgedet_models.layers.rep_stage import RepStage

__all__ = ["HybridEncoder"]

EPS = 1e-5


class HybridEncoder(nn.Module):
    """Feature maps, finest first, to as many maps of one width."""

    def __init__(self, shapes: Shapes, prefix: str, *, heads: int) -> None:
        """Build for a state dict with names as `names.official_names` gives them.

        Args:
            shapes: The weights.
            prefix: Where the encoder lies.
            heads: Of the attention, which no key shows.

        Raises:
            CheckpointError: A tensor is missing.
        """
        super().__init__()
        levels = shapes.count(f"{prefix}.input_proj")
        self.input_proj = nn.ModuleList(_cell(shapes, f"{prefix}.input_proj.{i}", "identity") for i in range(levels))
        maps = range(shapes.count(f"{prefix}.encoder"))
        self.encoder = nn.ModuleList(_over_map(shapes, f"{prefix}.encoder.{i}", heads) for i in maps)
        self.lateral_convs = nn.ModuleList()
        self.fpn_blocks = nn.ModuleList()
        self.downsample_convs = nn.ModuleList()
        self.pan_blocks = nn.ModuleList()
        for i in range(levels - 1):
            fine = shapes.has(f"{prefix}.fpn_blocks.{i}.cv4")
            act = "identity" if fine else "silu"
            self.lateral_convs.append(_cell(shapes, f"{prefix}.lateral_convs.{i}", act))
            self.fpn_blocks.append(_stage(shapes, f"{prefix}.fpn_blocks.{i}"))
            self.downsample_convs.append(_down(shapes, f"{prefix}.downsample_convs.{i}", act))
            self.pan_blocks.append(_stage(shapes, f"{prefix}.pan_blocks.{i}"))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map features (N, C, h, w), as many as there are projections, to maps of the same sizes."""
        maps = [project(feature) for project, feature in zip(self.input_proj, features, strict=True)]
        first = len(maps) - len(self.encoder)
        for index, attend in enumerate(self.encoder, first):
            maps[index] = attend(maps[index])
        inner = [maps.pop()]
        for lateral, fuse in zip(self.lateral_convs, self.fpn_blocks, strict=True):
            inner[0] = lateral(inner[0])
            finer = maps.pop()
            enlarged = functional.interpolate(inner[0], scale_factor=2.0, mode="nearest")
            inner.insert(0, fuse(torch.cat((enlarged, finer), dim=1)))
        outputs = [inner.pop(0)]
        for shrink, fuse in zip(self.downsample_convs, self.pan_blocks, strict=True):
            outputs.append(fuse(torch.cat((shrink(outputs[-1]), inner.pop(0)), dim=1)))
        return outputs


def _cell(shapes: Shapes, prefix: str, act: str, *, stride: int = 1, depthwise: bool = False) -> ConvBnAct:
    c_out, c_group, kernel = shapes.conv(f"{prefix}.conv")
    groups = c_out if depthwise else 1
    return ConvBnAct(c_group * groups, c_out, kernel, stride, groups=groups, act=act, eps=EPS)


def _over_map(shapes: Shapes, prefix: str, heads: int) -> nn.Module:
    layers = []
    for i in range(shapes.count(f"{prefix}.layers")):
        ffn, channels = shapes.matrix(f"{prefix}.layers.{i}.linear1")
        layers.append(EncoderLayer(channels, heads, ffn))
    return OverMap(layers)


def _down(shapes: Shapes, prefix: str, act: str) -> nn.Module:
    if not shapes.has(f"{prefix}.0.cv1"):
        return _cell(shapes, prefix, act, stride=2)
    cv1 = _cell(shapes, f"{prefix}.0.cv1", "identity")
    cv2 = _cell(shapes, f"{prefix}.0.cv2", "identity", stride=2, depthwise=True)
    return nn.Sequential(adopt(ChannelsThenSize, cv1=cv1, cv2=cv2))


def _stage(shapes: Shapes, prefix: str) -> nn.Module:
    """Build one fusion stage, or one of the two that D-FINE nests in each."""
    if shapes.has(f"{prefix}.cv4"):
        chains = [
            nn.Sequential(_stage(shapes, f"{prefix}.{cv}.0"), _cell(shapes, f"{prefix}.{cv}.1", "silu"))
            for cv in ("cv2", "cv3")
        ]
        cv1, cv4 = (_cell(shapes, f"{prefix}.{cv}", "silu") for cv in ("cv1", "cv4"))
        return adopt(Elan, cv1=cv1, cv2=chains[0], cv3=chains[1], cv4=cv4)
    cells = []
    for i in range(shapes.count(f"{prefix}.m")):
        conv1, conv2 = (_cell(shapes, f"{prefix}.m.{i}.{conv}", "identity") for conv in ("conv1", "conv2"))
        cells.append(adopt(ParallelConv, conv1=conv1, conv2=conv2, bn=None, act=nn.SiLU()))
    return adopt(
        RepStage,
        cv1=_cell(shapes, f"{prefix}.cv1", "silu"),
        cv2=_cell(shapes, f"{prefix}.cv2", "silu"),
        m=nn.Sequential(*cells),
        cv3=_cell(shapes, f"{prefix}.cv3", "silu") if shapes.has(f"{prefix}.cv3") else nn.Identity(),
    )
