"""ResNet (He et al., "Deep Residual Learning for Image Recognition", 2015) with torchvision's keys, of any widths.

Read off the shapes of a state dict: basic blocks or bottlenecks, widths, depths, groups (ResNeXt), which block has a
projection. Not visible there: the place of a bottleneck's stride, in its 3×3 (torchvision, mmdet) or first 1×1
convolution (Caffe and Detectron's maskrcnn-benchmark), and the BatchNorms' epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

__all__ = ["RESNETS", "ResNet", "ResNetShape", "StageShape", "read_resnet", "run_resnet"]


@dataclass(frozen=True, slots=True)
class StageShape:
    """One of the four stages.

    Attributes:
        blocks: How many.
        inner: Channels within a block.
        out: Channels that come out.
        groups: Of the 3×3 convolution of a bottleneck.
    """

    blocks: int
    inner: int
    out: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """What a state dict tells of a ResNet.

    Attributes:
        stem: Channels of the first convolution.
        stages: The four stages.
        bottleneck: Whether blocks have three convolutions, not two.
    """

    stem: int
    stages: tuple[StageShape, ...]
    bottleneck: bool

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the stages."""
        return tuple(stage.out for stage in self.stages)


def _published(blocks: tuple[int, int, int, int], *, bottleneck: bool) -> ResNetShape:
    widths = (64, 128, 256, 512)
    factor = 4 if bottleneck else 1
    stages = tuple(StageShape(count, width, factor * width) for count, width in zip(blocks, widths, strict=True))
    return ResNetShape(64, stages, bottleneck)


RESNETS: Mapping[str, ResNetShape] = {
    "r18": _published((2, 2, 2, 2), bottleneck=False),
    "r34": _published((3, 4, 6, 3), bottleneck=False),
    "r50": _published((3, 4, 6, 3), bottleneck=True),
    "r101": _published((3, 4, 23, 3), bottleneck=True),
}


class _Block(nn.Module):
    """``relu(branch(x) + shortcut(x))``; keys ``conv1`` … ``bn3``, ``downsample.0`` and ``.1``."""

    def __init__(
        self, c_in: int, stage: StageShape, stride: int, *, bottleneck: bool, stride_first: bool, eps: float
    ) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=eps)
        inner = stage.inner
        self.convs = 3 if bottleneck else 2
        if bottleneck:
            first, second = (stride, 1) if stride_first else (1, stride)
            self.conv1 = nn.Conv2d(c_in, inner, 1, first, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, second, 1, groups=stage.groups, bias=False)
            self.conv3 = nn.Conv2d(inner, stage.out, 1, bias=False)
            self.bn3 = norm(stage.out)
        else:
            self.conv1 = nn.Conv2d(c_in, inner, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, stage.out, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = norm(inner), norm(inner if bottleneck else stage.out)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != stage.out:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, stage.out, 1, stride, bias=False), norm(stage.out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.convs == 3:
            y = self.bn3(self.conv3(self.relu(y)))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class ResNet(nn.Module):
    """The stages of a ResNet without its classifier."""

    def __init__(self, shape: ResNetShape, *, eps: float = 1e-5, stride_first: bool = False) -> None:
        """Build; `stride_first`: a bottleneck's stride is in its first convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, shape.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(shape.stem, eps=eps)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        block = partial(_Block, bottleneck=shape.bottleneck, stride_first=stride_first, eps=eps)
        c = shape.stem
        for number, stage in enumerate(shape.stages, start=1):
            layer = nn.Sequential()
            for i in range(stage.blocks):
                layer.append(block(c, stage, 2 if i == 0 and number > 1 else 1))
                c = stage.out
            self.add_module(f"layer{number}", layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the four stages, at strides 4, 8, 16 and 32."""
        return run_resnet(self, x)


def run_resnet(parts: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the outputs of the four stages of a module that holds a ResNet's parts by their names."""
    for name in ("conv1", "bn1", "relu", "maxpool"):
        x = parts.get_submodule(name)(x)
    found: list[Tensor] = []
    for number in (1, 2, 3, 4):
        x = parts.get_submodule(f"layer{number}")(x)
        found.append(x)
    return found


def read_resnet(tensors: Mapping[str, Tensor], prefix: str) -> ResNetShape | None:
    """Read the shape of a ResNet under a prefix; None where its first blocks are not there."""
    stem = tensors.get(f"{prefix}conv1.weight")
    bottleneck = f"{prefix}layer1.0.conv3.weight" in tensors
    stages: list[StageShape] = []
    for number in (1, 2, 3, 4):
        first = f"{prefix}layer{number}.0.conv"
        one, two, last = (tensors.get(f"{first}{k}.weight") for k in (1, 2, 3 if bottleneck else 2))
        if one is None or two is None or last is None or two.dim() != 4 or not two.shape[1]:
            return None
        depth = prefix.count(".") + 1
        blocks = {n.split(".")[depth] for n in tensors if n.startswith(f"{prefix}layer{number}.")}
        groups = max(1, len(one) // two.shape[1]) if bottleneck else 1
        stages.append(StageShape(len(blocks), len(one), len(last), groups))
    return None if stem is None else ResNetShape(len(stem), tuple(stages), bottleneck)
