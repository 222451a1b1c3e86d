"""RT-DETR's ResNet (PaddleDetection's variant d) from the shapes of its weights.

Depth, widths, basic or bottleneck blocks, the stem's one or three convolutions, and averaging shortcuts are read off
the keys. Not stored, and the same in all: ReLU, and that each stage but the first halves the size in the 3×3
convolution of its first block.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.checkpoint.shapes import Shapes
from edgedet_models.layers.conv_bn_act import ConvBnAct

__all__ = ["PResNet"]


class PResNet(nn.Module):
    """The stem and the stages; gives the outputs of all stages."""

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        """Build for a state dict whose BatchNorms are called ``bn``.

        Raises:
            CheckpointError: A tensor is missing.
        """
        super().__init__()
        stem = [f"conv1_{i}" for i in (1, 2, 3) if shapes.has(f"{prefix}.conv1.conv1_{i}")]
        self.conv1 = nn.Sequential(
            OrderedDict(
                (name, _cell(shapes, f"{prefix}.conv1.{name}", stride=2 if i == 0 else 1, act="relu"))
                for i, name in enumerate(stem)
            )
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages = shapes.count(f"{prefix}.res_layers")
        self.res_layers = nn.ModuleList(
            Stage(shapes, f"{prefix}.res_layers.{index}", stride=1 if index == 0 else 2) for index in range(stages)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) to one feature per stage, strides 4, 8, 16, 32."""
        features = []
        x = self.pool(self.conv1(x))
        for stage in self.res_layers:
            x = stage(x)
            features.append(x)
        return features


class Stage(nn.Module):
    """Blocks in a row."""

    def __init__(self, shapes: Shapes, prefix: str, *, stride: int) -> None:
        """Build; the first block has the stride."""
        super().__init__()
        count = shapes.count(f"{prefix}.blocks")
        self.blocks = nn.Sequential(
            *(Block(shapes, f"{prefix}.blocks.{i}", stride=stride if i == 0 else 1) for i in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks."""
        out: Tensor = self.blocks(x)
        return out


class Block(nn.Module):
    """Two 3×3 convolutions, or 1×1, 3×3 and 1×1, beside a shortcut."""

    branch2c: nn.Module | None
    short: nn.Module

    def __init__(self, shapes: Shapes, prefix: str, *, stride: int) -> None:
        """Build from the keys."""
        super().__init__()
        three = shapes.has(f"{prefix}.branch2c")
        self.branch2a = _cell(shapes, f"{prefix}.branch2a", stride=1 if three else stride, act="relu")
        act = "relu" if three else "identity"
        self.branch2b = _cell(shapes, f"{prefix}.branch2b", stride=stride if three else 1, act=act)
        self.branch2c = _cell(shapes, f"{prefix}.branch2c") if three else None
        if shapes.has(f"{prefix}.short.conv.conv"):
            pool = nn.AvgPool2d(2, 2, 0, ceil_mode=True)
            self.short = nn.Sequential(OrderedDict(pool=pool, conv=_cell(shapes, f"{prefix}.short.conv")))
        elif shapes.has(f"{prefix}.short"):
            self.short = _cell(shapes, f"{prefix}.short", stride=stride)
        else:
            self.short = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = self.branch2b(self.branch2a(x))
        if self.branch2c is not None:
            y = self.branch2c(y)
        return functional.relu(y + self.short(x))


def _cell(shapes: Shapes, prefix: str, *, stride: int = 1, act: str = "identity") -> ConvBnAct:
    c_out, c_in, kernel = shapes.conv(f"{prefix}.conv")
    return ConvBnAct(c_in, c_out, kernel, stride, act=act, eps=1e-5)
