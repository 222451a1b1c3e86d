"""NanoDet: ShuffleNetV2 without its last convolution, a neck, and per level a tower that boxes and classes share.

The official last convolution of a level gives class logits first, then the bins of the four sides (`SplitRows`). Plus
measures from the corner of a cell, m from its middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgedet_models.backbones.cell import Cell
from edgedet_models.backbones.shufflenet_v2 import ShuffleUnit
from edgedet_models.detector import DetectorModule
from edgedet_models.layers.split_rows import SplitRows
from edgedet_models.nanodet.necks import ACT, AddingPan, GhostPan, Separable
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["NanoDet", "NanoDetSize", "read_nanodet"]

MEAN_BGR, STD_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


@dataclass(frozen=True, slots=True)
class NanoDetSize:
    """What distinguishes one NanoDet from another.

    Attributes:
        stem: Channels of the first convolution.
        stages: Channels of the backbone's three stages.
        units: Units of each stage.
        neck: Channels of the neck and of the heads.
        levels: Levels of the head; those beyond three are extra levels of Plus.
        plus: Whether this is NanoDet-Plus.
        kernel: Side of the depthwise convolutions of neck and heads.
        convs: Convolutions of a tower.
        blocks: Ghost blocks at each joint of Plus's neck.
        bins: Bins of a box side.
    """

    stem: int
    stages: tuple[int, int, int]
    units: tuple[int, int, int]
    neck: int
    levels: int
    plus: bool
    kernel: int
    convs: int = 2
    blocks: int = 1
    bins: int = 8


class _Backbone(nn.Module):
    def __init__(self, size: NanoDetSize) -> None:
        super().__init__()
        self.conv1 = Cell(3, size.stem, 3, 2, act=ACT)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = size.stem
        self.stages: list[str] = []
        for number, (c_out, count) in enumerate(zip(size.stages, size.units, strict=True), start=2):
            units = [ShuffleUnit(c if i == 0 else c_out, c_out, 2 if i == 0 else 1, ACT) for i in range(count)]
            self.stages.append(f"stage{number}")
            self.add_module(self.stages[-1], nn.Sequential(*units))
            c = c_out

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.conv1(x))
        found: list[Tensor] = []
        for name in self.stages:
            x = self.get_submodule(name)(x)
            found.append(x)
        return found


class _Head(nn.Module):
    def __init__(self, size: NanoDetSize, classes: int) -> None:
        super().__init__()
        towers = ([Separable(size.neck, size.neck, size.kernel) for _ in range(size.convs)] for _ in range(size.levels))
        self.cls_convs = nn.ModuleList(nn.Sequential(*tower) for tower in towers)
        rows = {"boxes": range(classes, classes + 4 * size.bins), "scores": range(classes)}
        self.gfl_cls = nn.ModuleList(SplitRows(size.neck, rows) for _ in range(size.levels))

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        raw: list[Tensor] = []
        for tower, last, x in zip(self.cls_convs, self.gfl_cls, features, strict=True):
            raw += last(tower(x))
        return tuple(raw)


class NanoDet(DetectorModule):
    """A NanoDet detector, without what only training uses."""

    def __init__(self, variant: str, size: NanoDetSize, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(_spec(variant, size, classes))
        self.stride = 8 << (len(size.stages) - 1)  # extra levels round their size up
        self.backbone = _Backbone(size)
        extra = size.levels - len(size.stages)
        self.fpn: nn.Module = AddingPan(size.stages, size.neck)
        if size.plus:
            self.fpn = GhostPan(size.stages, size.neck, kernel=size.kernel, blocks=size.blocks, extra=extra)
        self.head = _Head(size, len(classes))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level bins of box sides (N, 4 * bins, h, w) and class logits (N, classes, h, w)."""
        raw: tuple[Tensor, ...] = self.head(self.fpn(self.backbone(x)))
        return raw


def _spec(variant: str, size: NanoDetSize, classes: tuple[str, ...]) -> ModelSpec:
    levels = tuple(LevelSpec(8 << i, boxes=f"boxes_{i}", scores=f"scores_{i}") for i in range(size.levels))
    resize = ResizeSpec("stretch", interpolation="linear-corner")
    if not size.plus:
        resize = ResizeSpec("letterbox-topleft", pad_bgr=(104, 116, 124), rounding="floor")
    decode = DecodeSpec("dfl", levels, "cls", bins=size.bins, cell_offset=0.0 if size.plus else 0.5, clip="before-nms")
    return ModelSpec(
        family="nanodet",
        variant=variant,
        input=InputSpec("images", 320, 320, layout="NCHW", dtype="float32", color="BGR", mean=MEAN_BGR, std=STD_BGR),
        resize=resize,
        decode=decode,
        classes=classes,
        thresholds=Thresholds(conf=0.35, iou=0.6, max_det=100, multi_label=True),
        licence="Apache-2.0",
    )


def read_nanodet(tensors: Mapping[str, Tensor]) -> tuple[NanoDetSize, int] | None:
    """Read the size and the number of classes off the shapes; None where the marks of a NanoDet are not there."""
    stem, project = tensors.get("backbone.conv1.0.weight"), tensors.get("head.distribution_project.project")
    head, depthwise = tensors.get("head.gfl_cls.0.weight"), tensors.get("head.cls_convs.0.0.depthwise.weight")
    if stem is None or project is None or head is None or depthwise is None or depthwise.dim() != 4:
        return None
    firsts = [tensors.get(f"backbone.stage{n}.0.branch2.0.weight") for n in (2, 3, 4)]
    halves = [0 if first is None else len(first) for first in firsts]
    units = [_count(tensors, f"backbone.stage{n}.") for n in (2, 3, 4)]
    plus = "fpn.reduce_layers.0.conv.weight" in tensors
    bins = len(project)
    classes = len(head) - 4 * bins
    if 0 in halves or classes < 1:
        return None
    size = NanoDetSize(
        len(stem),
        (2 * halves[0], 2 * halves[1], 2 * halves[2]),
        (units[0], units[1], units[2]),
        head.shape[1],
        _count(tensors, "head.gfl_cls."),
        plus,
        depthwise.shape[2],
        _count(tensors, "head.cls_convs.0."),
        _count(tensors, "fpn.top_down_blocks.0.blocks.") if plus else 1,
        bins,
    )
    return size, classes


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    depth = prefix.count(".")
    return len({name.split(".")[depth] for name in tensors if name.startswith(prefix)})
