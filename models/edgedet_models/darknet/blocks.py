"""The modules that darknet's sections become."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedet_models.darknet.activations import DARKNET_ACTIVATIONS

__all__ = [
    "BN_EPS",
    "ConvShape",
    "DarknetConv",
    "DarknetHead",
    "GroupedRoute",
    "MaxPool",
    "Reorg",
    "ScaleChannels",
    "Shortcut",
    "SpaceToDepth",
    "Upsample",
]

BN_EPS = 1e-5
"""Inside the square root, as darknet has it; OpenCV's importer uses 1e-6, which shows in the fourth digit."""


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A convolution's hyper-parameters; pairs are (rows, columns)."""

    c_in: int
    c_out: int
    kernel: int
    stride: tuple[int, int]
    padding: int
    dilation: int
    groups: int
    bn: bool
    act: str

    @property
    def floats(self) -> int:
        """Numbers that the weights file holds for it, running statistics included."""
        kernel = self.c_out * (self.c_in // self.groups) * self.kernel**2
        return kernel + self.c_out * (4 if self.bn else 1)


class DarknetConv(nn.Module):
    """Convolution, BatchNorm or bias, activation."""

    def __init__(self, shape: ConvShape) -> None:
        """Build from a shape."""
        super().__init__()
        self.conv = nn.Conv2d(
            shape.c_in,
            shape.c_out,
            shape.kernel,
            shape.stride,
            shape.padding,
            shape.dilation,
            shape.groups,
            bias=not shape.bn,
        )
        self.bn: nn.Module = nn.BatchNorm2d(shape.c_out, eps=BN_EPS) if shape.bn else nn.Identity()
        self.act = DARKNET_ACTIVATIONS[shape.act]()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H', W')."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class DarknetHead(nn.Module):
    """The 1×1 convolution before a ``[yolo]`` or ``[region]`` layer, in three: boxes, objectness, classes.

    Darknet's channels are anchor-major: per anchor x, y, w, h, objectness, classes. With `softmax` (YOLOv2) a
    class's probability is the softmax p over its anchor's classes; the output is then log(p / (1 - p)), whose
    sigmoid is p, so that every head scores alike.
    """

    def __init__(self, shape: ConvShape, anchors: int, classes: int, *, softmax: bool = False) -> None:
        """Build for a convolution of ``anchors * (5 + classes)`` filters without groups."""
        super().__init__()
        self.anchors = anchors
        self.classes = classes
        self.softmax = softmax
        self.boxes, self.objectness, self.scores = (
            DarknetConv(
                ConvShape(
                    shape.c_in,
                    len(rows),
                    shape.kernel,
                    shape.stride,
                    shape.padding,
                    shape.dilation,
                    1,
                    shape.bn,
                    shape.act,
                )
            )
            for rows in self.rows()
        )

    def rows(self) -> tuple[list[int], list[int], list[int]]:
        """Darknet's channels of boxes, objectness and classes."""
        step = 5 + self.classes
        starts = [a * step for a in range(self.anchors)]
        return (
            [s + i for s in starts for i in range(4)],
            [s + 4 for s in starts],
            [s + 5 + i for s in starts for i in range(self.classes)],
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (N, A * 4, H, W), objectness (N, A, H, W) and scores (N, A * classes, H, W)."""
        scores: Tensor = self.scores(x)
        if self.softmax:
            n, _, h, w = scores.shape
            p = scores.reshape(n, self.anchors, self.classes, h, w).softmax(dim=2)
            scores = (p.clamp(min=1e-12).log() - (1 - p).clamp(min=1e-7).log()).reshape(n, -1, h, w)
        return self.boxes(x), self.objectness(x), scores


class MaxPool(nn.Module):
    """Max pooling with `padding` in all, the smaller half before, windows cut at the border.

    Where the halves differ by one, stride 1 pools with the larger half on all sides and drops the first row
    and column; stride 2 rounds the size up. Both are what darknet computes, without a padding value.
    """

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        """Build; `supports` says which combinations are exact."""
        super().__init__()
        before, after = padding // 2, padding - padding // 2
        self.drop = after - before if stride == 1 else 0
        self.pool = nn.MaxPool2d(
            kernel, stride, after if self.drop else before, ceil_mode=after > before and stride == 2
        )

    @staticmethod
    def supports(kernel: int, stride: int, padding: int) -> bool:
        """Tell whether this pooling can be built."""
        before, after = padding // 2, padding - padding // 2
        return after <= kernel // 2 and (before == after or stride in (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, (H + padding - kernel) // stride + 1, …)."""
        out: Tensor = self.pool(x)
        return out[..., self.drop :, self.drop :] if self.drop else out


class GroupedRoute(nn.Module):
    """Concatenate layers, or of each layer the group `group_id` of `groups`."""

    def __init__(self, groups: int, group_id: int) -> None:
        """Build."""
        super().__init__()
        self.groups = groups
        self.group_id = group_id

    def forward(self, *layers: Tensor) -> Tensor:
        """Concatenate (N, C_i, H, W) along the channels."""
        parts = layers
        if self.groups > 1:
            sizes = [x.shape[1] // self.groups for x in layers]
            parts = tuple(x[:, self.group_id * n : (self.group_id + 1) * n] for x, n in zip(layers, sizes, strict=True))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class Shortcut(nn.Module):
    """Sum of layers of one size, then the activation.

    The first layer says how many channels there are; of layers with more, the first ones count, and layers with
    fewer add to the first channels only.
    """

    def __init__(self, act: str) -> None:
        """Build."""
        super().__init__()
        self.act = DARKNET_ACTIVATIONS[act]()

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Add (N, C, H, W) tensors."""
        channels = x.shape[1]
        for other in others:
            missing = channels - other.shape[1]
            if missing > 0:
                other = nn.functional.pad(other, (0, 0, 0, 0, 0, missing))
            x = x + other[:, :channels]
        out: Tensor = self.act(x)
        return out


class ScaleChannels(nn.Module):
    """Features times a gate: (N, C, 1, 1) for ``[scale_channels]``, of their own shape for ``[sam]``."""

    def __init__(self, act: str) -> None:
        """Build."""
        super().__init__()
        self.act = DARKNET_ACTIVATIONS[act]()

    def forward(self, gate: Tensor, features: Tensor) -> Tensor:
        """Multiply; the result has the shape of `features`."""
        out: Tensor = self.act(features * gate)
        return out


class Upsample(nn.Module):
    """Nearest-neighbour enlargement, times a factor."""

    def __init__(self, stride: int, scale: float) -> None:
        """Build."""
        super().__init__()
        self.resize = nn.Upsample(scale_factor=stride, mode="nearest")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H * stride, W * stride)."""
        out: Tensor = self.resize(x)
        return out if self.scale == 1.0 else out * self.scale


class SpaceToDepth(nn.Module):
    """``[reorg3d]``: phase by phase, rows outside, all channels of a phase together."""

    def __init__(self, stride: int) -> None:
        """Build."""
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C * stride², H / stride, W / stride)."""
        n, c, h, w = x.shape
        s = self.stride
        phases = x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
        return phases.reshape(n, c * s * s, h // s, w // s)


class Reorg(nn.Module):
    """``[reorg]`` of YOLOv2, which indexes its input as if it had fewer channels and more pixels.

    Darknet calls its routine with the input's own size where the output's is meant: the memory of (C, H, W)
    is read as (C / s², H * s, W * s), brought to (C, H, W) by space-to-depth, and the result read as (C * s²,
    H / s, W / s). Trained networks rely on it.
    """

    def __init__(self, stride: int) -> None:
        """Build."""
        super().__init__()
        self.stride = stride
        self.phases = SpaceToDepth(stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C * stride², H / stride, W / stride)."""
        n, c, h, w = x.shape
        s = self.stride
        mixed: Tensor = self.phases(x.reshape(n, c // (s * s), h * s, w * s))
        return mixed.reshape(n, c * s * s, h // s, w // s)
