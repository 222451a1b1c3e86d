"""ATSS (Zhang et al. 2020, arXiv:1912.02424) in mmdet's form and in its authors'.

One anchor per cell, eight strides wide; boxes relative to it, times a learned factor per level; class and centerness.
mmdet scores by their product, from a cell's corner. The authors' code scores by its root, counts the last pixel as part
of a box, has the stride of a bottleneck in its first convolution and no epsilon in its frozen BatchNorms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.backbones.resnet import ResNet, ResNetShape, read_resnet
from edgedet_models.detector import DetectorModule
from edgedet_models.pyramid.dense import GROUPS
from edgedet_models.ssd.spec import CAP
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["Atss", "AtssShape", "authors_to_own", "read_atss"]

SIDE = 640
STRIDES = (8, 16, 32, 64, 128)
_AUTHORS = (
    (r"^backbone\.body\.(stem\.)?", "backbone."),
    (r"^backbone\.fpn\.fpn_inner(\d)\.", lambda m: f"neck.lateral_convs.{int(m[1]) - 2}.conv."),
    (r"^backbone\.fpn\.fpn_layer(\d)\.", lambda m: f"neck.fpn_convs.{int(m[1]) - 2}.conv."),
    (r"^backbone\.fpn\.top_blocks\.p(\d)\.", lambda m: f"neck.fpn_convs.{int(m[1]) - 3}.conv."),
    (
        r"^rpn\.head\.(cls|bbox)_tower\.(\d+)\.",
        lambda m: (
            f"bbox_head.{'cls' if m[1] == 'cls' else 'reg'}_convs.{int(m[2]) // 3}.{'gn' if int(m[2]) % 3 else 'conv'}."
        ),
    ),
    (r"^rpn\.head\.cls_logits\.", "bbox_head.atss_cls."),
    (r"^rpn\.head\.bbox_pred\.", "bbox_head.atss_reg."),
    (r"^rpn\.head\.centerness\.", "bbox_head.atss_centerness."),
    (r"^rpn\.head\.scales\.", "bbox_head.scales."),
)
"""The authors' names for what mmdet and this file call otherwise."""


@dataclass(frozen=True, slots=True)
class AtssShape:
    """What distinguishes one ATSS from another.

    Attributes:
        body: The ResNet.
        width: Channels of pyramid and head.
        convs: Convolutions of a tower.
        authors: Whether it is of the authors' code.
    """

    body: ResNetShape
    width: int = 256
    convs: int = 4
    authors: bool = False


class _Conv(nn.Module):
    """A convolution as ``conv``, with a GroupNorm as ``gn`` and a ReLU where it belongs to a tower."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, bias: bool = True, norm: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=bias)
        self.gn: nn.Module = nn.GroupNorm(GROUPS, c_out) if norm else nn.Identity()
        self.act: nn.Module = nn.ReLU() if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.gn(self.conv(x)))
        return out


class _Neck(nn.Module):
    def __init__(self, channels: Sequence[int], width: int, *, relu: bool) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Conv(c, width, 1) for c in channels)
        strides = [1] * len(channels) + [2, 2]
        self.fpn_convs = nn.ModuleList(_Conv(width, width, 3, stride) for stride in strides)
        self.relu = relu

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        inner = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            height, width = inner[i - 1].shape[-2:]
            inner[i - 1] = inner[i - 1] + functional.interpolate(inner[i], size=(int(height), int(width)))
        *convs, to_p6, to_p7 = self.fpn_convs
        out = [conv(x) for conv, x in zip(convs, inner, strict=True)]
        p6 = to_p6(out[-1])
        return [*out, p6, to_p7(functional.relu(p6) if self.relu else p6)]


class _Scale(nn.Module):
    def __init__(self, *, as_list: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1) if as_list else torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Head(nn.Module):
    def __init__(self, shape: AtssShape, classes: int) -> None:
        super().__init__()
        width = shape.width
        self.cls_convs, self.reg_convs = (
            nn.Sequential(*(_Conv(width, width, 3, bias=shape.authors, norm=True) for _ in range(shape.convs)))
            for _ in range(2)
        )
        self.atss_cls = nn.Conv2d(width, classes, 3, padding=1)
        self.atss_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.atss_centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.ModuleList(_Scale(as_list=shape.authors) for _ in STRIDES)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        raw: list[Tensor] = []
        for scale, x in zip(self.scales, features, strict=True):
            box = self.reg_convs(x)
            raw += [scale(self.atss_reg(box)), self.atss_centerness(box), self.atss_cls(self.cls_convs(x))]
        return tuple(raw)


class Atss(DetectorModule):
    """An ATSS detector, with mmdet's key names."""

    def __init__(self, variant: str, shape: AtssShape, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(_spec(variant, classes, authors=shape.authors))
        self.stride = 32
        self.backbone = ResNet(shape.body, eps=0.0 if shape.authors else 1e-5, stride_first=shape.authors)
        self.neck = _Neck(shape.body.channels[1:], shape.width, relu=shape.authors)
        self.bbox_head = _Head(shape, len(classes))

    def small_input(self) -> Tensor:
        """Return a zero batch of two cells of the coarsest level; torch's GroupNorm refuses a single value."""
        return self.dummy_input((2 * STRIDES[-1], 2 * STRIDES[-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level boxes (N, 4, h, w), centerness (N, 1, h, w) and class logits (N, classes, h, w)."""
        raw: tuple[Tensor, ...] = self.bbox_head(self.neck(self.backbone(x)[1:]))
        return raw


def _spec(variant: str, classes: tuple[str, ...], *, authors: bool) -> ModelSpec:
    levels = tuple(
        LevelSpec(s, f"boxes_{i}", f"scores_{i}", f"centerness_{i}", anchors_px=((8.0 * s, 8.0 * s),))
        for i, s in enumerate(STRIDES)
    )
    rules = PriorSpec("exp", (0.1, 0.1, 0.2, 0.2), cap=CAP, cap_below=not authors, inclusive=authors)
    decode = DecodeSpec(
        "priors",
        levels,
        "sqrt(obj*cls)" if authors else "obj*cls",
        cell_offset=0.5 if authors else 0.0,
        unit_xy=(float(SIDE), float(SIDE)),
        priors=rules,
        clip="before-nms" if authors else "before-nms-drop-empty",
        top_k=1000,
    )
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    pixels = InputSpec("images", SIDE, SIDE, layout="NCHW", dtype="float32", color="RGB", mean=mean, std=std)
    if authors:
        mean = (102.9801, 115.9465, 122.7717)
        pixels = InputSpec("images", SIDE, SIDE, layout="NCHW", dtype="float32", color="BGR", mean=mean)
    pad = (103, 116, 123) if authors else (104, 116, 124)
    return ModelSpec(
        family="atss",
        variant=variant,
        input=pixels,
        resize=ResizeSpec("letterbox-topleft", pad_bgr=pad, rounding="floor" if authors else "round", per_axis=True),
        decode=decode,
        classes=classes,
        thresholds=Thresholds(conf=0.3, iou=0.6, max_det=100, multi_label=True),
        licence="non-commercial" if authors else "Apache-2.0",
    )


def authors_to_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by mmdet's names; the authors' anchors, which the spec holds, are left out."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("rpn.anchor_generator."):
            continue
        for pattern, new in _AUTHORS:
            name, count = re.subn(pattern, new, name)
            if count:
                break
        renamed[name] = tensor
    return renamed


def read_atss(tensors: Mapping[str, Tensor]) -> tuple[AtssShape, int] | None:
    """Read the shape and the number of classes off tensors with mmdet's names; None where the marks are not there."""
    classes, body = tensors.get("bbox_head.atss_cls.weight"), read_resnet(tensors, "backbone.")
    if classes is None or body is None or classes.dim() != 4:
        return None
    convs = {n.split(".")[2] for n in tensors if n.startswith("bbox_head.cls_convs.")}
    authors = "bbox_head.cls_convs.0.conv.bias" in tensors
    return AtssShape(body, classes.shape[1], len(convs), authors), len(classes)
