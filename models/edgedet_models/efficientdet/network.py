"""EfficientDet: EfficientNet, BiFPN, and a head of nine anchors per cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from edgedet_models.detector import DetectorModule
from edgedet_models.efficientdet.backbone import EfficientBackbone, EfficientShape, read_backbone
from edgedet_models.efficientdet.bifpn import BiFpn
from edgedet_models.efficientdet.head import Head
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["ANCHORS", "EfficientDet", "EfficientDetShape", "read_efficientdet"]

ANCHORS = 9
STRIDES = (8, 16, 32, 64, 128)
BIAS = "class_net.predict.conv_pw.bias"


@dataclass(frozen=True, slots=True)
class EfficientDetShape:
    """What distinguishes one EfficientDet from another.

    Attributes:
        backbone: Its EfficientNet.
        width: Channels of BiFPN and heads.
        cells: Cells of the BiFPN.
        repeats: Layers of a head's tower.
        tf: Whether the weights come from TensorFlow: its paddings, and biases before BatchNorms.
        fast: Whether the BiFPN weighs its inputs.
    """

    backbone: EfficientShape
    width: int
    cells: int
    repeats: int
    tf: bool
    fast: bool


class EfficientDet(DetectorModule):
    """An EfficientDet detector."""

    def __init__(self, variant: str, shape: EfficientDetShape, classes: tuple[str, ...], size: int = 512) -> None:
        """Build an untrained detector; `size` is the side of the input by default."""
        lite = shape.backbone.lite
        super().__init__(_spec(variant, classes, size, lite=lite))
        act = "relu6" if lite else "silu"
        self.backbone = EfficientBackbone(shape.backbone, tf=shape.tf)
        self.fpn = BiFpn(shape.backbone.channels, shape.width, shape.cells, fast=shape.fast, act=act, tf=shape.tf)
        counts = {"class_net": len(classes), "box_net": 4}
        self.class_net, self.box_net = (
            Head(shape.width, shape.repeats, ANCHORS * count, act=act, bias=shape.tf, boxes=name == "box_net")
            for name, count in counts.items()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level raw boxes (N, 36, h, w) and class logits (N, 9 * classes, h, w)."""
        maps = self.fpn(self.backbone(x))
        pairs = zip(self.box_net(maps), self.class_net(maps), strict=True)
        return tuple(t for pair in pairs for t in pair)


def _anchors(stride: int, scale: float) -> tuple[tuple[float, float], ...]:
    """Return (width, height) of a cell's anchors: octaves outside, factors of width and height inside.

    Args:
        stride: Pixels per cell.
        scale: Side of the smallest in cells: 4, and 3 in effdet's configurations of lite0 to lite2.
    """
    bases = [scale * stride * 2 ** (octave / 3) for octave in range(3)]
    return tuple((w * base, h * base) for base in bases for w, h in ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)))


def _spec(variant: str, classes: tuple[str, ...], size: int, *, lite: bool) -> ModelSpec:
    levels = tuple(
        LevelSpec(s, f"boxes_{i}", f"scores_{i}", anchors_px=_anchors(s, 3.0 if lite else 4.0))
        for i, s in enumerate(STRIDES)
    )
    mean, std, pad = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (104, 116, 124)
    if lite:
        mean, std, pad = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (128, 128, 128)
    return ModelSpec(
        family="efficientdet",
        variant=variant,
        input=InputSpec(
            "images", size, size, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255, mean=mean, std=std
        ),
        resize=ResizeSpec("letterbox-topleft", pad_bgr=pad, rounding="floor", interpolation="area-down"),
        decode=DecodeSpec(
            "priors",
            levels,
            "cls",
            unit_xy=(float(size), float(size)),
            priors=PriorSpec("exp"),
            clip="before-nms",
        ),
        classes=classes,
        thresholds=Thresholds(conf=0.3, iou=0.5, max_det=100, multi_label=True),
        licence="Apache-2.0",
    )


def read_efficientdet(tensors: Mapping[str, Tensor]) -> tuple[EfficientDetShape, int] | None:
    """Read the shape and the channels of the class logits; None where the marks are not there."""
    backbone, last = read_backbone(tensors, "backbone."), tensors.get(BIAS)
    pointwise = tensors.get("fpn.cell.0.fnode.0.after_combine.conv.conv_pw.weight")
    if backbone is None or last is None or pointwise is None:
        return None
    cells = {n.split(".")[2] for n in tensors if n.startswith("fpn.cell.")}
    repeats = {n.split(".")[2] for n in tensors if n.startswith("class_net.conv_rep.")}
    shape = EfficientDetShape(
        backbone,
        len(pointwise),
        len(cells),
        len(repeats),
        tf="fpn.cell.0.fnode.0.after_combine.conv.conv_pw.bias" in tensors,
        fast="fpn.cell.0.fnode.0.combine.edge_weights" in tensors,
    )
    return shape, len(last)
