"""torchvision's RetinaNet (Lin et al. 2017, arXiv:1708.02002) and FCOS (Tian et al. 2019, arXiv:1904.01355).

Their heads are shared by all levels. A RetinaNet's tower has ReLUs (v1) or GroupNorms and ReLUs (v2). FCOS measures the
four sides in units of its level's anchor, 8 to 128 pixels, and scores a cell by the root of class times centerness.
Cells lie at multiples of ``input // grid``, without half a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.backbones.resnet import ResNetShape
from edgedet_models.detector import DetectorModule
from edgedet_models.pyramid.fpn import PyramidBackbone
from edgedet_models.ssd.spec import CAP
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, ScoreKind, Thresholds

__all__ = ["ANCHORS", "DenseShape", "Fcos", "RetinaNet"]

ANCHORS = 9
SIDE = 640
"""Sides of the input by default; torchvision resizes the short side to 800 pixels, the long one to 1333 at most."""
STRIDES = (8, 16, 32, 64, 128)
GROUPS = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN_BGR = (104, 116, 124)


@dataclass(frozen=True, slots=True)
class DenseShape:
    """What distinguishes one of these from another.

    Attributes:
        body: The ResNet.
        width: Channels of pyramid and head.
        source: Channels that P6 is made from.
        convs: Convolutions of a tower.
        norm: Whether a tower has GroupNorms; FCOS's always has.
    """

    body: ResNetShape
    width: int
    source: int
    convs: int = 4
    norm: bool = False


def _retina_tower(shape: DenseShape) -> nn.Sequential:
    tower = nn.Sequential()
    for _ in range(shape.convs):
        conv = nn.Conv2d(shape.width, shape.width, 3, padding=1, bias=not shape.norm)
        norm = [nn.GroupNorm(GROUPS, shape.width)] if shape.norm else []
        tower.append(nn.Sequential(conv, *norm, nn.ReLU()))
    return tower


def _fcos_tower(shape: DenseShape) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(shape.convs):
        conv = nn.Conv2d(shape.width, shape.width, 3, padding=1)
        layers += [conv, nn.GroupNorm(GROUPS, shape.width), nn.ReLU()]
    return nn.Sequential(*layers)


class _Part(nn.Module):
    """A tower (``conv``) and its last convolutions, by name."""

    def __init__(self, tower: nn.Sequential, width: int, **channels: int) -> None:
        super().__init__()
        self.conv = tower
        self.names = tuple(channels)
        for name, count in channels.items():
            self.add_module(name, nn.Conv2d(width, count, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.conv(x)
        return tuple(self.get_submodule(name)(x) for name in self.names)


class _Head(nn.Module):
    def __init__(self, classification: _Part, regression: _Part) -> None:
        super().__init__()
        self.classification_head = classification
        self.regression_head = regression


class RetinaNet(DetectorModule):
    """Nine anchors per cell, a sigmoid per class."""

    def __init__(self, variant: str, shape: DenseShape, classes: tuple[str, ...]) -> None:
        """Build an untrained detector; `classes` has a name for each output, torchvision's dead column 0 included."""
        levels = tuple(
            LevelSpec(stride, f"boxes_{i}", f"scores_{i}", anchors_px=_anchors(4 * stride))
            for i, stride in enumerate(STRIDES)
        )
        rules = PriorSpec("exp", step="grid-floor", cap=CAP)
        limits = Thresholds(conf=0.3, iou=0.5, max_det=300, multi_label=True)
        decode = _decode(levels, "cls", rules)
        super().__init__(_spec("retinanet", variant, classes, decode, limits))
        self.stride = 32
        self.backbone = PyramidBackbone(shape.body, shape.width, shape.source)
        self.head = _Head(
            _Part(_retina_tower(shape), shape.width, cls_logits=ANCHORS * len(classes)),
            _Part(_retina_tower(shape), shape.width, bbox_reg=ANCHORS * 4),
        )

    def small_input(self) -> Tensor:
        """Return a zero batch of two cells of the coarsest level; torch's GroupNorm refuses a single value."""
        return self.dummy_input((2 * STRIDES[-1], 2 * STRIDES[-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level raw boxes (N, 36, h, w) and class logits (N, 9 * classes, h, w)."""
        raw: list[Tensor] = []
        for level in self.backbone(x):
            raw += [*self.head.regression_head(level), *self.head.classification_head(level)]
        return tuple(raw)


class Fcos(DetectorModule):
    """One point per cell, with a centerness."""

    def __init__(self, variant: str, shape: DenseShape, classes: tuple[str, ...]) -> None:
        """Build an untrained detector; `classes` has a name for each output, torchvision's dead column 0 included."""
        levels = tuple(
            LevelSpec(stride, f"boxes_{i}", f"scores_{i}", f"centerness_{i}", anchors_px=((float(stride),) * 2,))
            for i, stride in enumerate(STRIDES)
        )
        rules = PriorSpec("sides", step="grid-floor")
        limits = Thresholds(conf=0.3, iou=0.6, max_det=100, multi_label=True)
        decode = _decode(levels, "sqrt(obj*cls)", rules)
        super().__init__(_spec("fcos", variant, classes, decode, limits))
        self.stride = 32
        self.backbone = PyramidBackbone(shape.body, shape.width, shape.source)
        self.head = _Head(
            _Part(_fcos_tower(shape), shape.width, cls_logits=len(classes)),
            _Part(_fcos_tower(shape), shape.width, bbox_reg=4, bbox_ctrness=1),
        )

    def small_input(self) -> Tensor:
        """Return a zero batch of two cells of the coarsest level; torch's GroupNorm refuses a single value."""
        return self.dummy_input((2 * STRIDES[-1], 2 * STRIDES[-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level sides (N, 4, h, w), centerness (N, 1, h, w) and class logits (N, classes, h, w)."""
        raw: list[Tensor] = []
        for level in self.backbone(x):
            sides, centerness = self.head.regression_head(level)
            raw += [functional.relu(sides), centerness, *self.head.classification_head(level)]
        return tuple(raw)


def _anchors(side: int) -> tuple[tuple[float, float], ...]:
    """Return (width, height) of a cell's anchors: ratios h / w outside, octaves inside, halves rounded to pixels."""
    sizes = (side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3)))
    pairs = ((s / math.sqrt(ratio), s * math.sqrt(ratio)) for ratio in (0.5, 1.0, 2.0) for s in sizes)
    return tuple((2.0 * round(w / 2), 2.0 * round(h / 2)) for w, h in pairs)


def _decode(levels: tuple[LevelSpec, ...], score: ScoreKind, rules: PriorSpec) -> DecodeSpec:
    return DecodeSpec(
        "priors",
        levels,
        score,
        cell_offset=0.0,
        unit_xy=(float(SIDE), float(SIDE)),
        priors=rules,
        clip="before-nms",
        top_k=1000,
    )


def _spec(family: str, variant: str, classes: tuple[str, ...], decode: DecodeSpec, limits: Thresholds) -> ModelSpec:
    return ModelSpec(
        family=family,
        variant=variant,
        input=InputSpec(
            "images", SIDE, SIDE, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255, mean=MEAN, std=STD
        ),
        resize=ResizeSpec("letterbox-topleft", pad_bgr=MEAN_BGR, rounding="floor", per_axis=True),
        decode=decode,
        classes=classes,
        thresholds=limits,
        licence="BSD-3-Clause",
    )
