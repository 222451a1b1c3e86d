"""Ultra-Light-Fast-Generic-Face-Detector-1MB: a tiny MobileNet, one receptive field block, four levels of priors.

The block (Liu et al., "Receptive Field Block Net", 2018) stands at position 7 of ``base_net`` in the RFB version; the
slim version has a depthwise-separable convolution there. Behind the backbone no convolution has a BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["RFB", "SLIM", "FaceWidths", "UltraFace", "read_face_widths"]

BLOCK = 7
"""Position of the receptive field block in ``base_net``."""
ENDS = (8, 11, 13)
"""Where ``base_net`` is cut for the first three levels."""
STRIDED = (0, 2, 4, 8, 11)
SIZES_PX = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
"""Sides of the square priors of a cell, per level."""
STRIDES = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class FaceWidths:
    """Channels of an Ultra-Light face detector.

    Attributes:
        base: Of the thirteen layers of ``base_net``.
        block: Inner channels of the receptive field block, 0 in the slim version.
        extra: Inner and outer channels of the last level's layer.
    """

    base: tuple[int, ...]
    block: int
    extra: tuple[int, int]


RFB = FaceWidths((16, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256), 8, (64, 256))
SLIM = FaceWidths(RFB.base, 0, (64, 256))


def _separable(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    depthwise = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False)
    pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(c_in), nn.ReLU(), pointwise, nn.BatchNorm2d(c_out), nn.ReLU())


def _plain(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """A depthwise and a 1×1 convolution with biases."""
    return nn.Sequential(nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in), nn.ReLU(), nn.Conv2d(c_in, c_out, 1))


class _Conv(ConvBnAct):
    def __init__(self, c_in: int, c_out: int, kernel: int = 1, *, dilation: int = 1, act: str = "identity") -> None:
        super().__init__(c_in, c_out, kernel, act=act, eps=1e-5)
        self.conv.dilation = (dilation, dilation)
        self.conv.padding = (dilation * (kernel // 2),) * 2


class ReceptiveFieldBlock(nn.Module):
    """Three branches of growing dilation, joined and added to a shortcut."""

    def __init__(self, c_in: int, c_out: int, inner: int) -> None:
        """Build with `inner` channels at the start of each branch."""
        super().__init__()
        wide, half = 2 * inner, inner // 2 * 3
        self.branch0 = nn.Sequential(
            _Conv(c_in, inner), _Conv(inner, wide, 3, act="relu"), _Conv(wide, wide, 3, dilation=2)
        )
        self.branch1 = nn.Sequential(
            _Conv(c_in, inner), _Conv(inner, wide, 3, act="relu"), _Conv(wide, wide, 3, dilation=3)
        )
        self.branch2 = nn.Sequential(
            _Conv(c_in, inner),
            _Conv(inner, half, 3, act="relu"),
            _Conv(half, wide, 3, act="relu"),
            _Conv(wide, wide, 3, dilation=5),
        )
        self.ConvLinear = _Conv(3 * wide, c_out)
        self.shortcut = _Conv(c_in, c_out)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        joined = torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), dim=1)
        out: Tensor = self.relu(self.ConvLinear(joined) + self.shortcut(x))
        return out


class UltraFace(DetectorModule):
    """The detector; boxes and classes come from one separable convolution per level, and a plain one on the last."""

    def __init__(self, variant: str, widths: FaceWidths, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(_spec(variant, classes))
        self.stride = 1
        base = widths.base
        stem = nn.Sequential(nn.Conv2d(3, base[0], 3, 2, 1, bias=False), nn.BatchNorm2d(base[0]), nn.ReLU())
        self.base_net = nn.Sequential(stem)
        for i, (c_in, c_out) in enumerate(pairwise(base), start=1):
            is_block = i == BLOCK and widths.block
            layer = ReceptiveFieldBlock(c_in, c_out, widths.block) if is_block else _separable(c_in, c_out, _stride(i))
            self.base_net.append(layer)
        narrow, last = widths.extra
        self.extras = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(base[-1], narrow, 1), nn.ReLU(), _plain(narrow, last, 2), nn.ReLU())]
        )
        channels = (*(base[end - 1] for end in ENDS), last)
        self.classification_headers = _heads(channels, len(classes) + 1)
        self.regression_headers = _heads(channels, 4)

    def small_input(self) -> Tensor:
        """Return a zero batch of two cells of the coarsest level."""
        return self.dummy_input((2 * STRIDES[-1], 2 * STRIDES[-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level raw boxes (N, 4 * A, h, w) and class logits (N, (1 + classes) * A, h, w)."""
        raw: list[Tensor] = []
        parts = [self.base_net[start:end] for start, end in pairwise((0, *ENDS))]
        for i, part in enumerate((*parts, self.extras[0])):
            x = part(x)
            raw += [self.regression_headers[i](x), self.classification_headers[i](x)]
        return tuple(raw)


def _stride(i: int) -> int:
    return 2 if i in STRIDED else 1


def _heads(channels: tuple[int, ...], each: int) -> nn.ModuleList:
    counts = [each * len(sizes) for sizes in SIZES_PX]
    pairs = list(zip(channels, counts, strict=True))
    last = nn.Conv2d(*pairs[-1], 3, padding=1)
    return nn.ModuleList([*(_plain(c, count) for c, count in pairs[:-1]), last])


def _spec(variant: str, classes: tuple[str, ...]) -> ModelSpec:
    levels = tuple(
        LevelSpec(stride, f"boxes_{i}", f"scores_{i}", anchors_px=tuple((float(s), float(s)) for s in sizes))
        for i, (stride, sizes) in enumerate(zip(STRIDES, SIZES_PX, strict=True))
    )
    rules = PriorSpec("exp", (0.1, 0.1, 0.2, 0.2), step="grid", clamp=True)
    gray, scale = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
    return ModelSpec(
        family="ultraface",
        variant=variant,
        input=InputSpec("images", 240, 320, layout="NCHW", dtype="float32", color="RGB", mean=gray, std=scale),
        resize=ResizeSpec("stretch"),
        decode=DecodeSpec("priors", levels, "softmax", unit_xy=(320.0, 240.0), priors=rules),
        classes=classes,
        thresholds=Thresholds(conf=0.7, iou=0.3),
        licence="MIT",
    )


def read_face_widths(tensors: Mapping[str, Tensor]) -> FaceWidths | None:
    """Read the channels off the shapes; None where a layer of the backbone is not there."""
    block = "base_net.7.branch0.0.conv.weight"
    names = ["base_net.0.0.weight", *(f"base_net.{i}.3.weight" for i in range(1, 13))]
    if block in tensors:
        names[BLOCK] = "base_net.7.ConvLinear.conv.weight"
    extra = ["extras.0.0.weight", "extras.0.2.2.weight"]
    if any(name not in tensors for name in (*names, *extra)):
        return None
    narrow, last = (len(tensors[name]) for name in extra)
    inner = len(tensors[block]) if block in tensors else 0
    return FaceWidths(tuple(len(tensors[name]) for name in names), inner, (narrow, last))
