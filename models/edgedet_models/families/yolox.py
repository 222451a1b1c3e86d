"""YOLOX (Megvii, Apache-2.0): nano, tiny, s, m, l, x, and any other width and depth of that design.

The official checkpoint is a state dict; depth, width, depthwise convolutions and class count are read off its
shapes. What leaves no trace there is taken from the official experiment files: BatchNorm epsilon 1e-3, SiLU,
BGR 0..255 pictures padded at the right and bottom. Architecture: Ge et al., "YOLOX: Exceeding YOLO Series in
2021", arXiv:2107.08430, and the official repository's key names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.depthwise import DepthwiseSeparable
from edgedet_models.layers.focus_stem import FocusStem
from edgedet_models.layers.spp_bottleneck import SppBottleneck
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

__all__ = ["FORMS", "LICENCE", "VARIANTS", "Yolox", "YoloxConfig", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)
STRIDES = (8, 16, 32)
STEM = "backbone.backbone.stem.conv.conv.weight"
CLASSES = "head.cls_preds.0.weight"
BLOCK = "backbone.backbone.dark2.1.m"
NECK_BLOCK = "backbone.C3_p4.m"
DEPTHWISE = "backbone.backbone.dark2.0.dconv.conv.weight"


@dataclass(frozen=True, slots=True)
class YoloxConfig:
    """What distinguishes one YOLOX from another.

    Attributes:
        channels: Channels of the stem, 64 times the width multiple.
        blocks: Bottlenecks of the first stage; the middle stages have three times as many.
        neck_blocks: Bottlenecks of each stage of the neck.
        depthwise: Depthwise-separable instead of plain 3×3 convolutions.
    """

    channels: int
    blocks: int
    neck_blocks: int
    depthwise: bool = False


SIZES: Mapping[str, YoloxConfig] = {
    "yolox-nano": YoloxConfig(16, 1, 1, depthwise=True),
    "yolox-tiny": YoloxConfig(24, 1, 1),
    "yolox-s": YoloxConfig(32, 1, 1),
    "yolox-m": YoloxConfig(48, 2, 2),
    "yolox-l": YoloxConfig(64, 3, 3),
    "yolox-x": YoloxConfig(80, 4, 4),
}
IMAGE_PX: Mapping[str, int] = {"yolox-nano": 416, "yolox-tiny": 416}


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, *, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        spatial = DepthwiseSeparable if depthwise else ConvBnAct
        self.conv1 = ConvBnAct(channels, channels)
        self.conv2: nn.Module = spatial(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class _CspLayer(nn.Module):
    """Cross-stage partial stage with half the channels inside."""

    def __init__(self, c_in: int, c_out: int, blocks: int, *, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        hidden = c_out // 2
        self.conv1 = ConvBnAct(c_in, hidden)
        self.conv2 = ConvBnAct(c_in, hidden)
        self.conv3 = ConvBnAct(2 * hidden, c_out)
        self.m = nn.Sequential(*(_Bottleneck(hidden, shortcut=shortcut, depthwise=depthwise) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), dim=1))
        return out


class _CspDarknet(nn.Module):
    def __init__(self, config: YoloxConfig) -> None:
        super().__init__()
        c, n, dw = config.channels, config.blocks, config.depthwise
        down = DepthwiseSeparable if dw else ConvBnAct
        self.stem = FocusStem(3, c)
        self.dark2 = nn.Sequential(down(c, 2 * c, 3, 2), _CspLayer(2 * c, 2 * c, n, shortcut=True, depthwise=dw))
        self.dark3 = nn.Sequential(
            down(2 * c, 4 * c, 3, 2), _CspLayer(4 * c, 4 * c, 3 * n, shortcut=True, depthwise=dw)
        )
        self.dark4 = nn.Sequential(
            down(4 * c, 8 * c, 3, 2), _CspLayer(8 * c, 8 * c, 3 * n, shortcut=True, depthwise=dw)
        )
        self.dark5 = nn.Sequential(
            down(8 * c, 16 * c, 3, 2),
            SppBottleneck(16 * c, 16 * c),
            _CspLayer(16 * c, 16 * c, n, shortcut=False, depthwise=dw),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.dark3(self.dark2(self.stem(x)))
        p4 = self.dark4(p3)
        return p3, p4, self.dark5(p4)


class _Pafpn(nn.Module):
    """Path-aggregation neck; holds the backbone, as the official keys have it."""

    def __init__(self, config: YoloxConfig) -> None:
        super().__init__()
        c, dw = config.channels, config.depthwise
        down = DepthwiseSeparable if dw else ConvBnAct
        stage = partial(_CspLayer, blocks=config.neck_blocks, shortcut=False, depthwise=dw)
        self.backbone = _CspDarknet(config)
        self.lateral_conv0 = ConvBnAct(16 * c, 8 * c)
        self.C3_p4 = stage(16 * c, 8 * c)
        self.reduce_conv1 = ConvBnAct(8 * c, 4 * c)
        self.C3_p3 = stage(8 * c, 4 * c)
        self.bu_conv2: nn.Module = down(4 * c, 4 * c, 3, 2)
        self.C3_n3 = stage(8 * c, 8 * c)
        self.bu_conv1: nn.Module = down(8 * c, 8 * c, 3, 2)
        self.C3_n4 = stage(16 * c, 16 * c)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3, p4, p5 = self.backbone(x)
        top = self.lateral_conv0(p5)
        middle = self.reduce_conv1(self.C3_p4(torch.cat((self.upsample(top), p4), dim=1)))
        n3 = self.C3_p3(torch.cat((self.upsample(middle), p3), dim=1))
        n4 = self.C3_n3(torch.cat((self.bu_conv2(n3), middle), dim=1))
        return n3, n4, self.C3_n4(torch.cat((self.bu_conv1(n4), top), dim=1))


class _Head(nn.Module):
    """Decoupled head: a stem per level, then a tower for classes and one for boxes and objectness."""

    def __init__(self, config: YoloxConfig, num_classes: int) -> None:
        super().__init__()
        c = config.channels
        hidden = 4 * c
        spatial = DepthwiseSeparable if config.depthwise else ConvBnAct
        self.stems = nn.ModuleList(ConvBnAct(width, hidden) for width in (4 * c, 8 * c, 16 * c))
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(nn.Sequential(spatial(hidden, hidden, 3), spatial(hidden, hidden, 3)) for _ in STRIDES)
            for _ in range(2)
        )
        self.cls_preds = nn.ModuleList(nn.Conv2d(hidden, num_classes, 1) for _ in STRIDES)
        self.reg_preds = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in STRIDES)
        self.obj_preds = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in STRIDES)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        raw: list[Tensor] = []
        for i, feature in enumerate(features):
            x = self.stems[i](feature)
            box = self.reg_convs[i](x)
            raw += [self.reg_preds[i](box), self.obj_preds[i](box), self.cls_preds[i](self.cls_convs[i](x))]
        return tuple(raw)


class Yolox(DetectorModule):
    """A YOLOX detector."""

    def __init__(self, config: YoloxConfig, spec: ModelSpec) -> None:
        """Build an untrained detector of `config`'s size for the classes of `spec`."""
        super().__init__(spec)
        self.backbone = _Pafpn(config)
        self.head = _Head(config, len(spec.classes))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level boxes (N, 4, h, w), objectness (N, 1, h, w), class logits (N, classes, h, w)."""
        raw: tuple[Tensor, ...] = self.head(self.backbone(x))
        return raw


def _spec(variant: str, classes: tuple[str, ...]) -> ModelSpec:
    px = IMAGE_PX.get(variant, 640)
    levels = tuple(
        LevelSpec(stride, boxes=f"boxes_{i}", objectness=f"objectness_{i}", scores=f"scores_{i}")
        for i, stride in enumerate(STRIDES)
    )
    return ModelSpec(
        family="yolox",
        variant=variant,
        input=InputSpec("images", px, px, layout="NCHW", dtype="float32", color="BGR"),
        resize=ResizeSpec("letterbox-topleft", rounding="floor"),
        decode=DecodeSpec("points-exp", levels, score="obj*cls"),
        classes=classes,
        licence=LICENCE,
    )


def _build(variant: str, config: YoloxConfig, classes: tuple[str, ...]) -> Yolox:
    return Yolox(config, _spec(variant, classes))


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, config) for name, config in SIZES.items()
}


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Number of numbered children under `prefix`."""
    depth = prefix.count(".") + 1
    return len({name.split(".")[depth] for name in tensors if name.startswith(prefix + ".")})


def _inspect(tensors: Mapping[str, Tensor]) -> tuple[YoloxConfig, int] | None:
    """Read size and class count off the shapes; None if the marks of a YOLOX are not there."""
    stem, classes = tensors.get(STEM), tensors.get(CLASSES)
    if stem is None or classes is None or stem.shape[1:] != (12, 3, 3) or classes.ndim != 4:
        return None
    config = YoloxConfig(
        channels=stem.shape[0],
        blocks=_count(tensors, BLOCK),
        neck_blocks=_count(tensors, NECK_BLOCK),
        depthwise=DEPTHWISE in tensors,
    )
    return config, classes.shape[0]


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Say which YOLOX the state dict is; None without its stem and class convolutions."""
    found = _inspect(checkpoint.tensors())
    if found is None:
        return None
    config, num_classes = found
    variant = next((name for name, size in SIZES.items() if size == config), "custom")
    why = (
        f"YOLOX keys; width {config.channels / 64:g}, blocks per stage {config.blocks} and {3 * config.blocks},"
        f" {'depthwise' if config.depthwise else 'plain'} convolutions; assumed, as the file cannot tell:"
        " SiLU, BatchNorm eps 1e-3, BGR 0..255"
    )
    return Recognition("yolox", variant, tuple(f"class{i}" for i in range(num_classes)), why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no YOLOX, or a tensor is missing, left over or misshapen.
    """
    tensors = checkpoint.tensors()
    found, recognition = _inspect(tensors), recognise(checkpoint)
    if found is None or recognition is None:
        raise CheckpointError(f"{checkpoint.path}: expected a YOLOX state dict ({STEM}, {CLASSES}), got other keys")
    detector = _build(recognition.variant, found[0], recognition.classes)
    load_strict(detector, tensors, path=checkpoint.path, what=f"YOLOX ({recognition.variant})")
    return detector.eval()
