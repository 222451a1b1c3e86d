"""EfficientNet (Tan and Le 2019) with timm's keys, of any widths; TensorFlow's paddings where weights come from it.

TensorFlow pads a strided layer on even sizes at the right and bottom first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgedet_models.backbones.backbone import round_channels
from edgedet_models.backbones.efficientnet import STAGES, STEM_CHANNELS
from edgedet_models.layers.activation import activation
from edgedet_models.layers.squeeze_excite import ChannelGate

__all__ = ["BlockShape", "EfficientBackbone", "EfficientShape", "conv", "down", "pad", "published", "read_backbone"]

TAPS = (2, 4, 6)
"""Stages whose outputs are at strides 8, 16 and 32."""
STRIDES = tuple(stride for _, _, stride, _, _ in STAGES)
KEYS = ("conv_reduce", "conv_expand")


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Inner channels, output channels, kernel, and inner channels of the gate, 0 for none."""

    hidden: int
    out: int
    kernel: int
    gate: int


@dataclass(frozen=True, slots=True)
class EfficientShape:
    """Channels of the stem, and the blocks of the seven stages."""

    stem: int
    stages: tuple[tuple[BlockShape, ...], ...]

    @property
    def lite(self) -> bool:
        """Whether there are no gates; such networks have ReLU6, others SiLU."""
        return not self.stages[0][0].gate

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the three outputs."""
        return tuple(self.stages[tap][-1].out for tap in TAPS)


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1, same: bool = False) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size, or halves it; `same`: of what `pad` gives."""
    padding = 0 if same and stride > 1 else kernel // 2
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False)


def pad(kernel: int, stride: int, *, same: bool) -> nn.Module:
    """Return TensorFlow's padding of even sizes before a strided convolution; where not `same`, nothing."""
    total = kernel - stride
    sides = (total // 2, total - total // 2)
    return nn.ZeroPad2d((*sides, *sides)) if same and stride > 1 else nn.Identity()


def down(*, same: bool) -> nn.Module:
    """Return the max pooling that halves even sizes.

    TensorFlow's has one more row and column behind, which never count. Repeating the last ones, which are in the same
    window, is as good; a pooling that rounds its size up would say it too, but OpenVINO refuses it on a map of 2 × 2.
    """
    return nn.Sequential(nn.ReplicationPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)) if same else nn.MaxPool2d(3, 2, 1)


class _Block(nn.Module):
    """Widen (unless `first`), filter, gate, narrow; added to the input where the shape is kept."""

    def __init__(
        self, c_in: int, shape: BlockShape, stride: int, *, first: bool, act: str, eps: float, same: bool
    ) -> None:
        super().__init__()
        hidden = c_in if first else shape.hidden
        self.first = first
        narrow, last = ("conv_pw", "bn2") if first else ("conv_pwl", "bn3")
        self.narrow, self.last = narrow, last
        if not first:
            self.conv_pw = conv(c_in, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden, eps=eps)
        self.pad = pad(shape.kernel, stride, same=same)
        self.conv_dw = conv(hidden, hidden, shape.kernel, stride, groups=hidden, same=same)
        if not first:
            self.bn2 = nn.BatchNorm2d(hidden, eps=eps)
        self.se: nn.Module = nn.Identity()
        if shape.gate:
            self.se = ChannelGate(hidden, shape.gate, act=act, gate="sigmoid", keys=KEYS)
        self.add_module(narrow, conv(hidden, shape.out, 1))
        self.add_module(last, nn.BatchNorm2d(shape.out, eps=eps))
        self.act1, self.act2 = activation(act), activation(act)
        self.shortcut = stride == 1 and c_in == shape.out

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            y = self.act1(self.bn1(self.conv_dw(self.pad(x))))
        else:
            y = self.act1(self.bn1(self.conv_pw(x)))
            y = self.act2(self.bn2(self.conv_dw(self.pad(y))))
        out: Tensor = self.get_submodule(self.last)(self.get_submodule(self.narrow)(self.se(y)))
        return x + out if self.shortcut else out


class EfficientBackbone(nn.Module):
    """Stem and seven stages."""

    def __init__(self, shape: EfficientShape, *, tf: bool) -> None:
        """Build; `tf`: TensorFlow's paddings, and its epsilon of 1e-3."""
        super().__init__()
        act, eps = "relu6" if shape.lite else "silu", 1e-3 if tf else 1e-5
        self.pad = pad(3, 2, same=tf)
        self.conv_stem = conv(3, shape.stem, 3, 2, same=tf)
        self.bn1 = nn.BatchNorm2d(shape.stem, eps=eps)
        self.act1 = activation(act)
        self.blocks = nn.Sequential()
        c = shape.stem
        for number, (blocks, stride) in enumerate(zip(shape.stages, STRIDES, strict=True)):
            stage = nn.Sequential()
            for i, block in enumerate(blocks):
                s = stride if i == 0 else 1
                stage.append(_Block(c, block, s, first=number == 0, act=act, eps=eps, same=tf))
                c = block.out
            self.blocks.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at strides 8, 16 and 32."""
        x = self.act1(self.bn1(self.conv_stem(self.pad(x))))
        found: list[Tensor] = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in TAPS:
                found.append(x)
        return found


def published(width: float, depth: float, *, lite: bool) -> EfficientShape:
    """Return a published shape by its factors; lite ones keep stem, first and last stage as they are in depth."""
    stem = STEM_CHANNELS if lite else round_channels(STEM_CHANNELS * width)
    stages: list[tuple[BlockShape, ...]] = []
    c = stem
    for number, (expansion, kernel, _, channels, repeats) in enumerate(STAGES):
        out = round_channels(channels * width)
        count = repeats if lite and number in (0, 6) else -int(-repeats * depth // 1)
        blocks: list[BlockShape] = []
        for _ in range(count):
            gate = 0 if lite else int(c * 0.25 + 0.5)
            blocks.append(BlockShape(c if number == 0 else round_channels(c * expansion), out, kernel, gate))
            c = out
        stages.append(tuple(blocks))
    return EfficientShape(stem, tuple(stages))


def read_backbone(tensors: Mapping[str, Tensor], prefix: str) -> EfficientShape | None:
    """Read the shape under a prefix; None where a stage is not there."""
    stem = tensors.get(f"{prefix}conv_stem.weight")
    stages: list[tuple[BlockShape, ...]] = []
    for number in range(len(STAGES)):
        blocks: list[BlockShape] = []
        narrow = "conv_pw" if number == 0 else "conv_pwl"
        while (key := f"{prefix}blocks.{number}.{len(blocks)}.") + "conv_dw.weight" in tensors:
            depthwise, last = tensors[f"{key}conv_dw.weight"], tensors.get(f"{key}{narrow}.weight")
            gate = tensors.get(f"{key}se.conv_reduce.weight")
            if last is None or depthwise.dim() != 4:
                return None
            inner = 0 if gate is None else len(gate)
            blocks.append(BlockShape(len(depthwise), len(last), depthwise.shape[2], inner))
        if not blocks:
            return None
        stages.append(tuple(blocks))
    return None if stem is None else EfficientShape(len(stem), tuple(stages))
