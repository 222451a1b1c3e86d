"""EdgeCode: edgedet's own detector, for small objects on weak CPUs; the built-in model is one.

Everything downsamples by space-to-depth, all 3x3 convolutions are QARepVGG blocks, all activations are ReLU, and the
pyramid adds instead of concatenating, so that the exported graph is little more than a chain of convolutions that
8 bits do not hurt. The head is anchor-free and decoupled: per level raw distances to the four sides in units of the
stride (`ltrb`) and class logits, without objectness.

Three levels of stride 8, 16 and 32. The finest sees pixels that nothing but space-to-depth has touched, and a pooling
pyramid (SPPF) at stride 32 widens the view to a code that fills the whole input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.layer_list.names import class_names
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.qarep_block import QARepBlock
from edgedet_models.layers.space_to_depth import SpaceToDepth
from edgedet_models.shape_family import Found, ShapeFamily, Tensors
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

__all__ = ["FORMS", "LICENCE", "VARIANTS", "EdgeCode", "EdgeCodeSize", "load", "recognise"]

LICENCE = "Apache-2.0"
"""Our own code and our own weights."""
FORMS = ("state dict",)

STRIDES = (8, 16, 32)
_EXPECTED_CELLS = 5.0
_FIRST_DISTANCE = 2.0


@dataclass(frozen=True, slots=True)
class EdgeCodeSize:
    """Channels and depth.

    Attributes:
        channels: Channels at stride 2, 4, 8, 16 and 32.
        depth: Blocks at stride 4, 8, 16 and 32.
        pyramid: Channels of the three levels of the pyramid and its heads.
    """

    channels: tuple[int, int, int, int, int]
    depth: tuple[int, int, int, int]
    pyramid: tuple[int, int, int]


_SIZES: Mapping[str, EdgeCodeSize] = {
    "edgecode-n": EdgeCodeSize((16, 32, 48, 96, 128), (1, 2, 2, 2), (48, 64, 64)),
}


class _Down(nn.Sequential):
    """Halve the resolution: space-to-depth and a 1x1 convolution (2x2 of stride 2 when exported)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(SpaceToDepth(), ConvBnAct(4 * c_in, c_out, 1, act="relu"))


class _Pooling(nn.Module):
    """SPPF: three 5x5 maxima in a row see 5, 9 and 13 cells; then a 1x1 convolution mixes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, channels // 2, 1, act="relu")
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.mix = ConvBnAct(channels * 2, channels, 1, act="relu")

    def forward(self, x: Tensor) -> Tensor:
        views = [self.reduce(x)]
        for _ in range(3):
            views.append(self.pool(views[-1]))
        out: Tensor = self.mix(torch.cat(views, dim=1))
        return out


class _Backbone(nn.Module):
    """From the picture to features at stride 8, 16 and 32."""

    def __init__(self, size: EdgeCodeSize) -> None:
        super().__init__()
        c = size.channels
        self.stem = nn.Sequential(SpaceToDepth(), QARepBlock(12, c[0]))
        self.stages = nn.ModuleList()
        for i, depth in enumerate(size.depth):
            blocks = [QARepBlock(c[i + 1], c[i + 1]) for _ in range(depth)]
            self.stages.append(nn.Sequential(_Down(c[i], c[i + 1]), *blocks))
        self.pooling = _Pooling(c[4])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stages[0](self.stem(x))
        fine = self.stages[1](x)
        middle = self.stages[2](fine)
        return fine, middle, self.pooling(self.stages[3](middle))


class _Pyramid(nn.Module):
    """Top-down, then bottom-up (PAN), by addition."""

    def __init__(self, size: EdgeCodeSize) -> None:
        super().__init__()
        c, p = size.channels[2:], size.pyramid
        self.lateral = nn.ModuleList(ConvBnAct(a, b, 1, act="relu") for a, b in zip(c, p, strict=True))
        self.lower = nn.ModuleList(ConvBnAct(p[i + 1], p[i], 1, act="relu") for i in range(2))
        self.top_down = nn.ModuleList(QARepBlock(p[i], p[i]) for i in range(2))
        self.raise_ = nn.ModuleList(_Down(p[i], p[i + 1]) for i in range(2))
        self.bottom_up = nn.ModuleList(QARepBlock(p[i + 1], p[i + 1]) for i in range(2))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        fine, middle, coarse = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        middle = self.top_down[1](middle + _twice(self.lower[1](coarse)))
        fine = self.top_down[0](fine + _twice(self.lower[0](middle)))
        middle = self.bottom_up[0](middle + self.raise_[0](fine))
        coarse = self.bottom_up[1](coarse + self.raise_[1](middle))
        return [fine, middle, coarse]


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _LevelHead(nn.Module):
    """One block each for boxes and scores, then 1x1 predictors."""

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        super().__init__()
        self.box_block = QARepBlock(channels, channels)
        self.score_block = QARepBlock(channels, channels)
        self.boxes = nn.Conv2d(channels, 4, 1)
        self.scores = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.boxes.weight, std=0.01)
        nn.init.normal_(self.scores.weight, std=0.01)
        assert self.boxes.bias is not None, "built with a bias"
        assert self.scores.bias is not None, "built with a bias"
        nn.init.constant_(self.boxes.bias, _FIRST_DISTANCE)
        # As if a picture held a few cells of objects, and of all classes together (after RetinaNet, Lin et al., 2017):
        # with a higher prior, the first steps only push scores down, so hard that the ReLUs before them die.
        prior = _EXPECTED_CELLS / classes / (640 / stride) ** 2
        nn.init.constant_(self.scores.bias, math.log(prior / (1 - prior)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.boxes(self.box_block(x)), self.scores(self.score_block(x))


class EdgeCode(DetectorModule):
    """The detector; see the module's docstring."""

    def __init__(self, variant: str, size: EdgeCodeSize, classes: tuple[str, ...]) -> None:
        """Build it untrained.

        Args:
            variant: Name for the spec.
            size: Channels and depth.
            classes: Class names.
        """
        super().__init__(_spec(variant, classes))
        self.backbone = _Backbone(size)
        self.pyramid = _Pyramid(size)
        self.heads = nn.ModuleList(_LevelHead(c, len(classes), s) for c, s in zip(size.pyramid, STRIDES, strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return boxes and scores per level, finest first; each (N, C, H / stride, W / stride)."""
        levels = self.pyramid(self.backbone(x))
        return tuple(t for head, level in zip(self.heads, levels, strict=True) for t in head(level))


def _spec(variant: str, classes: tuple[str, ...]) -> ModelSpec:
    levels = tuple(LevelSpec(s, f"boxes_{i}", f"scores_{i}") for i, s in enumerate(STRIDES))
    return ModelSpec(
        family="edgecode",
        variant=variant,
        input=InputSpec("images", 640, 640, layout="NCHW", dtype="float32", color="BGR", scale=1 / 255),
        resize=ResizeSpec(interpolation="area-down"),
        decode=DecodeSpec(kind="ltrb", levels=levels, score="cls", cell_offset=0.5),
        classes=classes,
        licence=LICENCE,
    )


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[EdgeCodeSize] | None:
    def rows(name: str) -> int:
        if name not in tensors:
            raise CheckpointError(f"{checkpoint.path}: does not fit EdgeCode: expected the weights {name}")
        return len(tensors[name])

    stem = "backbone.stem.1.rbr_dense.conv.weight"
    marks = ("heads.2.scores.weight", "backbone.pooling.mix.conv.weight", stem)
    if any(name not in tensors for name in marks):
        return None
    depth = [
        sum(k.startswith(f"backbone.stages.{i}.") and k.endswith("rbr_1x1.weight") for k in tensors) for i in range(4)
    ]
    pyramid = [rows(f"pyramid.lateral.{i}.conv.weight") for i in range(3)]
    channels = [rows(stem), *(rows(f"backbone.stages.{i}.0.1.conv.weight") for i in range(4))]
    size = EdgeCodeSize(
        (channels[0], channels[1], channels[2], channels[3], channels[4]),
        (depth[0], depth[1], depth[2], depth[3]),
        (pyramid[0], pyramid[1], pyramid[2]),
    )
    return Found(size, class_names(None, rows(marks[0])), f"keys of EdgeCode, channels {size.channels}")


_FAMILY = ShapeFamily("edgecode", "EdgeCode", "an EdgeCode state dict", _SIZES, EdgeCode, _read)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
