"""RTMDet: CSPNeXt, a path-aggregation neck of its stages, and a head whose convolutions all levels share.

The BatchNorms of the head are each level's own; a shared weight is stored once per level under its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_models.rtmdet.cspnext import CspNext, CspNextStage, cell
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["RtmDet", "RtmDetSize", "is_shared", "read_size"]

STRIDES = (8, 16, 32)
MEAN_BGR, STD_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
STEM = "backbone.stem.2.conv.weight"
CLASSES = "bbox_head.rtm_cls.0.weight"


@dataclass(frozen=True, slots=True)
class RtmDetSize:
    """What distinguishes one RTMDet from another.

    Attributes:
        channels: Channels of the stem, 64 times the width multiple.
        blocks: Blocks of each stage of the backbone.
        neck_blocks: Blocks of each stage of the neck.
        exponential: A side of a box is exp(t) cells long instead of t.
        head_convs: Convolutions of each tower of the head.
        shared: All levels have the same convolutions in the head; a file in which they differ was trained without.
    """

    channels: int
    blocks: tuple[int, int, int, int]
    neck_blocks: int
    exponential: bool
    head_convs: int = 2
    shared: bool = True


class _Neck(nn.Module):
    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        widths = [4 * channels, 8 * channels, 16 * channels]
        stage = partial(CspNextStage, blocks=blocks, shortcut=False, attention=False)
        self.reduce_layers = nn.ModuleList(cell(widths[k], widths[k - 1]) for k in (2, 1))
        self.top_down_blocks = nn.ModuleList(stage(2 * widths[k - 1], widths[k - 1]) for k in (2, 1))
        self.downsamples = nn.ModuleList(cell(widths[k], widths[k], 3, 2) for k in (0, 1))
        self.bottom_up_blocks = nn.ModuleList(stage(2 * widths[k], widths[k + 1]) for k in (0, 1))
        self.out_convs = nn.ModuleList(cell(width, widths[0], 3) for width in widths)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        p3, p4, p5 = features
        top = self.reduce_layers[0](p5)
        middle = self.top_down_blocks[0](torch.cat((self.upsample(top), p4), dim=1))
        middle = self.reduce_layers[1](middle)
        n3 = self.top_down_blocks[1](torch.cat((self.upsample(middle), p3), dim=1))
        n4 = self.bottom_up_blocks[0](torch.cat((self.downsamples[0](n3), middle), dim=1))
        n5 = self.bottom_up_blocks[1](torch.cat((self.downsamples[1](n4), top), dim=1))
        return [conv(x) for conv, x in zip(self.out_convs, (n3, n4, n5), strict=True)]


def _share(towers: nn.ModuleList) -> None:
    """Give every level's convolutions the weights of the first level's; their modules stay apart, as the norms do."""
    for tower in towers[1:]:
        pairs = zip(tower.modules(), towers[0].modules(), strict=True)
        for own, first in pairs:
            if isinstance(own, nn.Conv2d) and isinstance(first, nn.Conv2d):
                own.weight = first.weight


class _Head(nn.Module):
    def __init__(self, size: RtmDetSize, classes: int) -> None:
        super().__init__()
        width, convs = 4 * size.channels, size.head_convs
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(nn.Sequential(*(cell(width, width, 3) for _ in range(convs))) for _ in STRIDES)
            for _ in range(2)
        )
        if size.shared:
            _share(self.cls_convs)
            _share(self.reg_convs)
        self.rtm_cls = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in STRIDES)
        self.rtm_reg = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in STRIDES)
        self.exponential = size.exponential

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        raw: list[Tensor] = []
        for i, x in enumerate(features):
            sides = self.rtm_reg[i](self.reg_convs[i](x))
            raw += [sides.exp() if self.exponential else sides, self.rtm_cls[i](self.cls_convs[i](x))]
        return tuple(raw)


class RtmDet(DetectorModule):
    """An RTMDet detector."""

    def __init__(self, variant: str, size: RtmDetSize, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(_spec(variant, classes))
        self.backbone = CspNext(size.channels, size.blocks)
        self.neck = _Neck(size.channels, size.neck_blocks)
        self.bbox_head = _Head(size, len(classes))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level the sides of boxes in cells (N, 4, h, w) and class logits (N, classes, h, w)."""
        raw: tuple[Tensor, ...] = self.bbox_head(self.neck(self.backbone(x)))
        return raw


def _spec(variant: str, classes: tuple[str, ...]) -> ModelSpec:
    levels = tuple(LevelSpec(stride, boxes=f"boxes_{i}", scores=f"scores_{i}") for i, stride in enumerate(STRIDES))
    return ModelSpec(
        family="rtmdet",
        variant=variant,
        input=InputSpec("images", 640, 640, layout="NCHW", dtype="float32", color="BGR", mean=MEAN_BGR, std=STD_BGR),
        resize=ResizeSpec("letterbox-topleft"),
        decode=DecodeSpec("ltrb", levels, score="cls", cell_offset=0.0),
        classes=classes,
        thresholds=Thresholds(conf=0.3, iou=0.65, multi_label=True),
        licence="Apache-2.0",
    )


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    depth = prefix.count(".")
    return len({name.split(".")[depth] for name in tensors if name.startswith(prefix)})


def is_shared(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether the convolutions of the head have the same weights on every level."""
    names = [name for name in tensors if name.startswith("bbox_head.") and name.endswith(".conv.weight")]
    firsts = [(name, ".".join([*name.split(".")[:2], "0", *name.split(".")[3:]])) for name in names]
    return all(first in tensors and torch.equal(tensors[name], tensors[first]) for name, first in firsts)


def read_size(tensors: Mapping[str, Tensor]) -> tuple[int, tuple[int, int, int, int], int, int, int] | None:
    """Read the stem's channels, blocks, the neck's blocks, the towers' convolutions and the classes off the shapes.

    Returns:
        None if the marks of an RTMDet are not there.
    """
    stem, classes = tensors.get(STEM), tensors.get(CLASSES)
    if stem is None or classes is None or stem.dim() != 4 or classes.dim() != 4:
        return None
    counts = [_count(tensors, f"backbone.stage{k}.{2 if k == 4 else 1}.blocks.") for k in (1, 2, 3, 4)]
    blocks = (counts[0], counts[1], counts[2], counts[3])
    neck = _count(tensors, "neck.top_down_blocks.0.blocks.")
    return len(stem), blocks, neck, _count(tensors, "bbox_head.cls_convs.0."), len(classes)
