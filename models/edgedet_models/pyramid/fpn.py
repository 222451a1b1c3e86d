"""Feature pyramid (Lin et al., "Feature Pyramid Networks", 2017) with torchvision's keys, old and new ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.backbones.resnet import ResNet, ResNetShape

__all__ = ["PyramidBackbone", "new_keys", "read_pyramid"]


class _LastLevels(nn.Module):
    """P6 from the coarsest map by a strided convolution, P7 from its ReLU."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(c_in, width, 3, 2, 1)
        self.p7 = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        p6 = self.p6(x)
        return [p6, self.p7(functional.relu(p6))]


class _Fpn(nn.Module):
    def __init__(self, channels: Sequence[int], width: int, source: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1)) for c in channels)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1)) for _ in channels)
        self.extra_blocks = _LastLevels(source, width)
        self.from_input = source != width

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        inner = [block(x) for block, x in zip(self.inner_blocks, features, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            height, width = inner[i - 1].shape[-2:]
            inner[i - 1] = inner[i - 1] + functional.interpolate(inner[i], size=(int(height), int(width)))
        out = [block(x) for block, x in zip(self.layer_blocks, inner, strict=True)]
        return [*out, *self.extra_blocks(features[-1] if self.from_input else out[-1])]


class PyramidBackbone(nn.Module):
    """A ResNet (``body``) and the pyramid on its last three stages (``fpn``), with P6 and P7."""

    def __init__(self, shape: ResNetShape, width: int, source: int) -> None:
        """Build.

        Args:
            shape: Of the ResNet.
            width: Channels of the pyramid.
            source: Channels that P6 is made from: the pyramid's, or those of the last stage.
        """
        super().__init__()
        self.body = ResNet(shape)
        self.fpn = _Fpn(shape.channels[1:], width, source)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return P3 to P7."""
        out: list[Tensor] = self.fpn(self.body(x)[1:])
        return out


def new_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a torchvision detector by the names that torchvision 0.13 and later give them.

    Earlier ones have no ``.0`` for the one convolution of a pyramid's block, and number a RetinaNet's tower with its
    ReLUs. FCOS never changed; its GroupNorms tell it apart.
    """
    fcos = "head.regression_head.bbox_ctrness.weight" in tensors
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", name)
        old = None if fcos else re.fullmatch(r"(head\.\w+_head\.conv)\.(\d+)\.(weight|bias)", name)
        if old is not None:
            name = f"{old[1]}.{int(old[2]) // 2}.0.{old[3]}"
        renamed[name] = tensor
    return renamed


def read_pyramid(tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the pyramid's channels and those that P6 is made from; None where it is not there."""
    p6 = tensors.get("backbone.fpn.extra_blocks.p6.weight")
    return None if p6 is None or p6.dim() != 4 else (len(p6), p6.shape[1])
