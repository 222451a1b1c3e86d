"""The official sizes, built from scratch in training form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.rep_vgg import RepVgg
from edgedet_models.yolov6.blocks import (
    BepC3,
    BiFusion,
    BottleRep,
    CspSppf,
    RepBlock,
    Sppf,
    Transpose,
    Wrapped,
)
from edgedet_models.yolov6.lite_blocks import (
    CspBlock,
    DarknetBlock,
    DepthwisePointwise,
    LiteDown,
    LiteSame,
    SqueezeExcite,
)
from edgedet_models.yolov6.network import Backbone, Head, LiteBackbone, LiteNeck, PanNeck, YoloV6

__all__ = ["BUILDERS", "SIZES", "Size", "build", "build_lite"]

REPEATS = (1, 6, 12, 18, 6, 12, 12, 12, 12)
CHANNELS = (64, 128, 256, 512, 1024, 256, 128, 128, 256, 256, 512)
"""Of the backbone's five and the neck's four and six layers, before scaling."""
PROJ_BINS = 17
"""Entries of the unused ``proj`` in official heads that predict no distributions."""
LITE_CHANNELS = (32, 64, 128, 256)
LITE_REPEATS = (1, 3, 7, 3)
LITE_NECK = 96


@dataclass(frozen=True, slots=True)
class Size:
    """Depth and width multiples; `csp_e`: share of the channels inside BepC3 (None: plain RepBlocks); box bins."""

    depth: float
    width: float
    csp_e: float | None = None
    bins: int = 1


SIZES: Mapping[str, Size] = {
    "yolov6n": Size(0.33, 0.25),
    "yolov6t": Size(0.33, 0.375),
    "yolov6s": Size(0.33, 0.50),
    "yolov6m": Size(0.60, 0.75, csp_e=2 / 3, bins=17),
}
LITE_WIDTHS: Mapping[str, float] = {"yolov6-lite-s": 0.7, "yolov6-lite-m": 1.1, "yolov6-lite-l": 1.5}


def _cell(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, *, act: str = "relu") -> nn.Module:
    return Wrapped(block=ConvBnAct(c_in, c_out, kernel, stride, act=act))


def _rep_block(c_in: int, c_out: int, n: int) -> nn.Module:
    blocks = [RepVgg(c_in if i == 0 else c_out, c_out) for i in range(n)]
    rest = {"block": nn.Sequential(*blocks[1:])} if n > 1 else {}
    return RepBlock(conv1=blocks[0], **rest)


def _bep_c3(c_in: int, c_out: int, n: int, *, e: float) -> nn.Module:
    """Half as many BottleReps as repeats, since each holds two blocks."""
    c = int(c_out * e)
    bottles = [
        BottleRep(alpha=nn.Parameter(torch.ones(1)), shortcut=True, conv1=RepVgg(c, c), conv2=RepVgg(c, c))
        for _ in range(max(n // 2, 1))
    ]
    rest = {"block": nn.Sequential(*bottles[1:])} if len(bottles) > 1 else {}
    return BepC3(m=RepBlock(conv1=bottles[0], **rest), cv1=_cell(c_in, c), cv2=_cell(c_in, c), cv3=_cell(2 * c, c_out))


def _sppf(channels: int) -> nn.Module:
    half = channels // 2
    pool = nn.MaxPool2d(5, 1, 2)
    return Wrapped(sppf=Sppf(cv1=_cell(channels, half), cv2=_cell(4 * half, channels), m=pool))


def _csp_sppf(channels: int) -> nn.Module:
    c = channels // 2
    module = CspSppf(
        cv1=_cell(channels, c),
        cv2=_cell(channels, c),
        cv3=_cell(c, c, 3),
        cv4=_cell(c, c),
        cv5=_cell(4 * c, c),
        cv6=_cell(c, c, 3),
        cv7=_cell(2 * c, channels),
        m=nn.MaxPool2d(5, 1, 2),
    )
    return Wrapped(cspsppf=module)


def _bifusion(c_equal: int, c_fine: int, c: int) -> nn.Module:
    return BiFusion(
        cv1=_cell(c_equal, c),
        cv2=_cell(c_fine, c),
        cv3=_cell(3 * c, c),
        upsample=Transpose(upsample_transpose=nn.ConvTranspose2d(c, c, 2, 2)),
        downsample=_cell(c, c, 3, 2),
    )


def _head(channels: tuple[int, ...], classes: int, bins: int) -> Head:
    proj = torch.arange(bins if bins > 1 else PROJ_BINS, dtype=torch.float32)
    proj_conv = nn.Conv2d(len(proj), 1, 1, bias=False).requires_grad_(False)
    with torch.no_grad():
        proj_conv.weight.copy_(proj.reshape(1, -1, 1, 1))
    cell = partial(_cell, act="silu")
    return Head(
        proj=proj,
        proj_conv=proj_conv,
        stems=nn.ModuleList(cell(c, c) for c in channels),
        cls_convs=nn.ModuleList(cell(c, c, 3) for c in channels),
        reg_convs=nn.ModuleList(cell(c, c, 3) for c in channels),
        cls_preds=nn.ModuleList(nn.Conv2d(c, classes, 1) for c in channels),
        reg_preds=nn.ModuleList(nn.Conv2d(c, 4 * bins, 1) for c in channels),
    )


def build(name: str, size: Size, classes: tuple[str, ...]) -> YoloV6:
    """Build an untrained network of EfficientRep or CSPBep, RepBiFPAN and the decoupled head."""
    n = [max(round(r * size.depth), 1) if r > 1 else r for r in REPEATS]
    c = [math.ceil(channels * size.width / 8) * 8 for channels in CHANNELS]
    stage = _rep_block if size.csp_e is None else partial(_bep_c3, e=size.csp_e)
    stages = {
        f"ERBlock_{i + 1}": nn.Sequential(RepVgg(c[i - 1], c[i], 2), stage(c[i], c[i], n[i])) for i in range(1, 5)
    }
    stages["ERBlock_5"].append(_csp_sppf(c[4]) if size.csp_e is None else _sppf(c[4]))
    backbone = Backbone(stem=RepVgg(3, c[0], 2), **stages)
    neck = PanNeck(
        reduce_layer0=_cell(c[4], c[5]),
        Bifusion0=_bifusion(c[3], c[2], c[5]),
        Rep_p4=stage(c[5], c[5], n[5]),
        reduce_layer1=_cell(c[5], c[6]),
        Bifusion1=_bifusion(c[2], c[1], c[6]),
        Rep_p3=stage(c[6], c[6], n[6]),
        downsample2=_cell(c[6], c[7], 3, 2),
        Rep_n3=stage(c[6] + c[7], c[8], n[7]),
        downsample1=_cell(c[8], c[9], 3, 2),
        Rep_n4=stage(c[5] + c[9], c[10], n[8]),
    )
    head = _head((c[6], c[8], c[10]), len(classes), size.bins)
    return YoloV6.assemble(name, classes, backbone, neck, head, strides=(8, 16, 32))


def _hs(c_in: int, c_out: int) -> nn.Module:
    return _cell(c_in, c_out, act="hardswish")


def _depthwise(c: int, stride: int, act: str = "identity") -> nn.Module:
    return Wrapped(block=ConvBnAct(c, c, 3, stride, groups=c, act=act))


def _gate(c: int) -> nn.Module:
    return SqueezeExcite(
        avg_pool=nn.AdaptiveAvgPool2d(1),
        conv1=nn.Conv2d(c, c // 4, 1),
        relu=nn.ReLU(),
        conv2=nn.Conv2d(c // 4, c, 1),
        hardsigmoid=nn.Hardsigmoid(),
    )


def _lite_down(c_in: int, middle: int, c_out: int) -> nn.Module:
    half, inner = c_out // 2, middle // 2
    return LiteDown(
        conv_dw_1=_depthwise(c_in, 2),
        conv_1=_hs(c_in, half),
        conv_pw_2=_hs(c_in, inner),
        conv_dw_2=_depthwise(inner, 2),
        se=_gate(inner),
        conv_2=_hs(inner, half),
        conv_dw_3=_depthwise(c_out, 1, "hardswish"),
        conv_pw_3=_hs(c_out, c_out),
    )


def _lite_same(c: int, middle: int) -> nn.Module:
    return LiteSame(
        conv_pw_1=_hs(c // 2, middle),
        conv_dw_1=_depthwise(middle, 1),
        se=_gate(middle),
        conv_1=_hs(middle, c // 2),
    )


def _dp(c: int, stride: int = 1) -> nn.Module:
    return DepthwisePointwise(
        conv_dw_1=nn.Conv2d(c, c, 5, stride, 2, groups=c),
        bn_1=nn.BatchNorm2d(c, eps=1e-3),
        act_1=nn.Hardswish(),
        conv_pw_1=nn.Conv2d(c, c, 1),
        bn_2=nn.BatchNorm2d(c, eps=1e-3),
        act_2=nn.Hardswish(),
    )


def _lite_csp(c: int) -> nn.Module:
    half = c // 2
    return CspBlock(
        conv_1=_hs(2 * c, half),
        conv_2=_hs(2 * c, half),
        conv_3=_hs(2 * half, c),
        blocks=DarknetBlock(conv_1=_hs(half, half), conv_2=_dp(half)),
    )


def _round_channels(value: float, divisor: int) -> int:
    """Round to a multiple, losing at most a tenth (MobileNet's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def build_lite(name: str, width: float, classes: tuple[str, ...]) -> YoloV6:
    """Build an untrained lite network of a width multiple."""
    widths = [_round_channels(c * width, 16) for c in LITE_CHANNELS]
    stages: dict[str, nn.Module] = {}
    c_in = 24
    for i, (c, n) in enumerate(zip(widths, LITE_REPEATS, strict=True), start=1):
        middle = _round_channels(c // 2, 8)
        stages[f"lite_effiblock_{i}"] = nn.Sequential(
            _lite_down(c_in, middle, c), *(_lite_same(c, middle) for _ in range(n - 1))
        )
        c_in = c
    backbone = LiteBackbone(conv_0=_cell(3, 24, 3, 2, act="hardswish"), **stages)
    c = LITE_NECK
    neck = LiteNeck(
        **{f"reduce_layer{i}": _hs(width, c) for i, width in enumerate(reversed(widths[1:]))},
        **{f"upsample{i}": nn.Upsample(scale_factor=2.0, mode="nearest") for i in range(2)},
        **{f"Csp_{i}": _lite_csp(c) for i in ("p4", "p3", "n3", "n4")},
        **{i: _dp(c, 2) for i in ("downsample2", "downsample1", "p6_conv_1", "p6_conv_2")},
    )
    head = Head(
        stems=nn.ModuleList(_dp(c) for _ in range(4)),
        cls_convs=nn.ModuleList(_dp(c) for _ in range(4)),
        reg_convs=nn.ModuleList(_dp(c) for _ in range(4)),
        cls_preds=nn.ModuleList(nn.Conv2d(c, len(classes), 1) for _ in range(4)),
        reg_preds=nn.ModuleList(nn.Conv2d(c, 4, 1) for _ in range(4)),
    )
    return YoloV6.assemble(name, classes, backbone, neck, head, strides=(8, 16, 32, 64))


BUILDERS: Mapping[str, Callable[[tuple[str, ...]], YoloV6]] = {
    **{name: partial(build, name, size) for name, size in SIZES.items()},
    **{name: partial(build_lite, name, width) for name, width in LITE_WIDTHS.items()},
}
"""Builders by variant name; the argument is the class names."""
