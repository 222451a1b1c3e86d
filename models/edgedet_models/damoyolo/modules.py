"""DAMO-YOLO's backbone, neck and head, with the official key names.

Xu et al., "DAMO-YOLO: A Report on Real-Time Object Detection Design", arXiv:2211.15444.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from edgedet_models.damoyolo.structure import (
    Block,
    DamoConfig,
    Merge,
    Mobile,
    Residual,
    Spp,
    Stage,
    Stem,
    Wrapper,
)
from edgedet_models.layers.activation import activation
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.focus_stem import FocusStem
from edgedet_models.layers.mobile_block import MobileBlock
from edgedet_models.layers.rep_vgg import RepVgg
from edgedet_models.layers.spp_bottleneck import SppBottleneck

__all__ = ["GiraffeNeck", "TinyNas", "ZeroHead"]

Features = tuple[Tensor, Tensor, Tensor]


def _conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Make TinyNAS's convolution (``conv1``) with BatchNorm (``bn1``)."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, bias=False)
    return nn.Sequential(OrderedDict(conv1=conv, bn1=nn.BatchNorm2d(c_out, eps=1e-3)))


class _ConvBnRelu(nn.Module):
    """TinyNAS's cell: ``conv`` holds convolution and BatchNorm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, act: str) -> None:
        super().__init__()
        self.conv = _conv_bn(c_in, c_out, kernel, stride)
        self.activation_function = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation_function(self.conv(x))
        return out


class _Residual(nn.Module):
    residual_proj: nn.Module | None

    def __init__(self, block: Residual, act: str) -> None:
        super().__init__()
        self.conv1 = _conv_bn(block.c_in, block.hidden, block.first_kernel)
        if block.form == "plain":
            self.conv2: nn.Module = _conv_bn(block.hidden, block.c_out, block.kernel, block.stride)
        else:
            self.conv2 = RepVgg(
                block.hidden,
                block.c_out,
                block.stride,
                act="identity",
                identity=False,
                deploy=block.form == "deploy",
            )
        self.shortcut = block.stride == 1
        project = self.shortcut and block.c_in != block.c_out
        self.residual_proj = _conv_bn(block.c_in, block.c_out, 1) if project else None
        self.activation_function = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.activation_function(self.conv1(x)))
        if self.shortcut:
            y = y + (x if self.residual_proj is None else self.residual_proj(x))
        out: Tensor = self.activation_function(y)
        return out


def _block(block: Block, act: str) -> nn.Module:
    if isinstance(block, Spp):
        return SppBottleneck(block.channels, block.channels)  # SiLU in all official configurations
    if isinstance(block, Mobile):
        return MobileBlock(block.c_in, block.c_out, block.hidden, block.kernel, block.stride, gate=block.gate, act=act)
    return _Residual(block, act)


class _Stage(nn.Module):
    def __init__(self, stage: Stage, act: str) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(_block(block, act) for block in stage.blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block_list:
            x = block(x)
        return x


class _Wrapper(nn.Module):
    """Cross-stage wrapper; its own convolutions have ReLU whatever the configuration says, as officially."""

    def __init__(self, wrapper: Wrapper, act: str) -> None:
        super().__init__()
        self.downsampler = _ConvBnRelu(wrapper.c_in, wrapper.c_down, 3, 2, "relu")
        if wrapper.spp:
            self.spp = SppBottleneck(wrapper.c_down, wrapper.c_down)
        self.convstem = nn.ModuleList(_block(block, act) for block in wrapper.blocks)
        self.with_spp = wrapper.spp
        if wrapper.blocks:
            inside = wrapper.c_shortcut + _width(wrapper.blocks[-1])
            self.conv_start = _ConvBnRelu(wrapper.c_down, wrapper.c_start, 1, 1, "relu")
            self.conv_shortcut = _ConvBnRelu(wrapper.c_down, wrapper.c_shortcut, 1, 1, "relu")
            self.conv_fuse = _ConvBnRelu(inside, wrapper.c_out, 1, 1, "relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsampler(x)
        if self.with_spp:
            x = self.spp(x)
        if len(self.convstem) == 0:
            return x
        y: Tensor = self.conv_start(x)
        for block in self.convstem:
            y = block(y)
        out: Tensor = self.conv_fuse(torch.cat((y, self.conv_shortcut(x)), dim=1))
        return out


def _width(block: Block) -> int:
    return block.channels if isinstance(block, Spp) else block.c_out


def _stem(stem: Stem, act: str) -> nn.Module:
    if stem.focus:
        return FocusStem(3, stem.channels, stem.kernel, act=act)
    return _ConvBnRelu(3, stem.channels, stem.kernel, 2, act)


class TinyNas(nn.Module):
    """The searched backbone; returns features of strides 8, 16 and 32."""

    def __init__(self, config: DamoConfig) -> None:
        """Build; the stages are called ``block_list``, or ``csp_stage`` in design ``csp``."""
        super().__init__()
        act = config.act
        stages = [_stem(config.stem, act)]
        for stage in config.stages:
            stages.append(_Wrapper(stage, act) if isinstance(stage, Wrapper) else _Stage(stage, act))
        if config.design == "csp":
            self.csp_stage = nn.ModuleList(stages)
            self.taken: tuple[int, ...] = (2, 3, 4)
        else:
            self.block_list = nn.ModuleList(stages)
            self.taken = (2, 4, 5)

    def forward(self, x: Tensor) -> Features:
        """Map the picture (N, 3, H, W) to three features, finest first."""
        features = []
        for i, stage in enumerate(self.csp_stage if hasattr(self, "csp_stage") else self.block_list):
            x = stage(x)
            if i in self.taken:
                features.append(x)
        p3, p4, p5 = features
        return p3, p4, p5


class _DepthwiseDown(nn.Module):
    """Depthwise 3×3 of stride 2 and pointwise, each with BatchNorm and activation."""

    def __init__(self, c_in: int, c_out: int, act: str) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in, bias=False)
        self.dwnorm = nn.BatchNorm2d(c_in, eps=1e-3)
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.pwnorm = nn.BatchNorm2d(c_out, eps=1e-3)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.dwnorm(self.depthwise(x)))
        out: Tensor = self.act(self.pwnorm(self.pointwise(x)))
        return out


class _NeckBlock(nn.Module):
    """A 3×3 RepConv to the hidden channels and a 3×3 convolution back, with a shortcut."""

    def __init__(self, channels: int, merge: Merge, act: str) -> None:
        super().__init__()
        self.conv1 = ConvBnAct(merge.hidden, channels, 3, act=act)
        self.conv2 = RepVgg(channels, merge.hidden, act=act, identity=False, deploy=merge.form == "deploy")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(self.conv2(x))
        return x + y


class _MobileNeckBlock(nn.Module):
    def __init__(self, channels: int, merge: Merge, act: str) -> None:
        super().__init__()
        self.conv = MobileBlock(channels, channels, merge.hidden, act=act)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _CspStage(nn.Module):
    """A stage of the neck that keeps the output of every block (ELAN-like)."""

    def __init__(self, c_in: int, c_out: int, merge: Merge, act: str) -> None:
        super().__init__()
        first = c_out // 2
        middle = c_out - first
        block = _MobileNeckBlock if merge.form == "mob" else _NeckBlock
        self.conv1 = ConvBnAct(c_in, first, act=act)
        self.conv2 = ConvBnAct(c_in, middle, act=act)
        self.convs = nn.Sequential(*(block(middle, merge, act) for _ in range(merge.blocks)))
        self.conv3 = ConvBnAct(middle * merge.blocks + first, c_out, act=act)

    def forward(self, x: Tensor) -> Tensor:
        kept, y = [self.conv1(x)], self.conv2(x)
        for block in self.convs:
            y = block(y)
            kept.append(y)
        out: Tensor = self.conv3(torch.cat(kept, dim=1))
        return out


class GiraffeNeck(nn.Module):
    """RepGFPN: features meet across scales, down and up, in five stages."""

    def __init__(self, config: DamoConfig) -> None:
        """Build."""
        super().__init__()
        fine, middle, coarse = config.neck_in
        out_fine, out_middle, out_coarse = config.neck_out
        m3, m4, m5, m7, m6 = config.merges
        act = config.act
        down = partial(_DepthwiseDown, act=act) if config.depthwise else partial(ConvBnAct, kernel=3, stride=2, act=act)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.bu_conv13: nn.Module = down(middle, middle)
        self.merge_3 = _CspStage(middle + coarse, coarse, m3, act)
        self.bu_conv24: nn.Module = down(fine, fine)
        self.merge_4 = _CspStage(fine + middle + coarse, middle, m4, act)
        self.merge_5 = _CspStage(middle + fine, out_fine, m5, act)
        self.bu_conv57: nn.Module = down(out_fine, out_fine)
        self.merge_7 = _CspStage(out_fine + middle, out_middle, m7, act)
        self.bu_conv46: nn.Module = down(middle, middle)
        self.bu_conv76: nn.Module = down(out_middle, out_middle)
        self.merge_6 = _CspStage(middle + out_middle + coarse, out_coarse, m6, act)

    def forward(self, features: Features) -> Features:
        """Map three features to three, finest first; the numbers are the official nodes'."""
        x2, x1, x0 = features
        x3 = self.merge_3(torch.cat((x0, self.bu_conv13(x1)), dim=1))
        x4 = self.merge_4(torch.cat((x1, self.bu_conv24(x2), self.upsample(x3)), dim=1))
        x5 = self.merge_5(torch.cat((x2, self.upsample(x4)), dim=1))
        x7 = self.merge_7(torch.cat((x4, self.bu_conv57(x5)), dim=1))
        x6 = self.merge_6(torch.cat((x3, self.bu_conv46(x4), self.bu_conv76(x7)), dim=1))
        return x5, x7, x6


class _Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Integral(nn.Module):
    """Holds the bins' values, which the decoder has of its own, under the official key."""

    project: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("project", torch.arange(bins, dtype=torch.float32))


class ZeroHead(nn.Module):
    """One convolution for boxes and one for classes per level; a learned factor on the boxes."""

    def __init__(self, config: DamoConfig, classes: int) -> None:
        """Build."""
        super().__init__()
        k = config.head_kernel
        self.integral = _Integral(config.bins)
        self.gfl_cls = nn.ModuleList(nn.Conv2d(c, classes, k, padding=k // 2) for c in config.neck_out)
        self.gfl_reg = nn.ModuleList(nn.Conv2d(c, 4 * config.bins, k, padding=k // 2) for c in config.neck_out)
        self.scales = nn.ModuleList(_Scale() for _ in config.neck_out)

    def forward(self, features: Features) -> tuple[Tensor, ...]:
        """Return per level boxes (N, 4 * bins, h, w) and class logits (N, classes, h, w)."""
        raw: list[Tensor] = []
        for i, x in enumerate(features):
            raw += [self.scales[i](self.gfl_reg[i](x)), self.gfl_cls[i](x)]
        return tuple(raw)
