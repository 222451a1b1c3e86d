"""SSD300 on VGG16 (Simonyan & Zisserman 2014), with torchvision's key names.

The third pooling rounds its size up (75 to 38). conv4_3 is scaled to unit length over channels, then by a learned
factor per channel (Liu et al., "ParseNet", 2015). fc6 and fc7 are convolutions, fc6 dilated by 6. No BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedet_models.detector import DetectorModule
from edgedet_models.ssd.head import SsdHead
from edgedet_models.ssd.spec import DefaultBoxes, ssd_spec

__all__ = ["BOXES", "SSD300", "Ssd", "SsdWidths", "read_widths"]

FEATURES = ((2, "pool"), (2, "pool"), (3, "pool-up"), (3, ""))
"""Convolutions of conv1 to conv4, and the pooling after each."""
BOXES = DefaultBoxes(
    size=300,
    scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    strides=(8, 16, 32, 64, 100, 300),
    exact=True,
)


@dataclass(frozen=True, slots=True)
class SsdWidths:
    """Channels of an SSD300.

    Attributes:
        features: Of the ten convolutions conv1_1 to conv4_3.
        top: Of conv5_1 to conv5_3, fc6 and fc7.
        extra: Of the two convolutions of each of the four blocks behind.
    """

    features: tuple[int, ...]
    top: tuple[int, ...]
    extra: tuple[tuple[int, int], ...]


SSD300 = SsdWidths(
    (64, 64, 128, 128, 256, 256, 256, 512, 512, 512),
    (512, 512, 512, 1024, 1024),
    ((256, 512), (128, 256), (128, 256), (128, 256)),
)


def _conv3(c_in: int, c_out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()


class _Backbone(nn.Module):
    def __init__(self, widths: SsdWidths) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c, left = 3, list(widths.features)
        for count, pool in FEATURES:
            for _ in range(count):
                layers += _conv3(c, left[0])
                c = left.pop(0)
            if pool:
                layers.append(nn.MaxPool2d(2, ceil_mode=pool == "pool-up"))
        self.features = nn.Sequential(*layers)
        self.scale_weight = nn.Parameter(torch.full((c,), 20.0))
        c1, c2, c3, c6, c7 = widths.top
        fc = nn.Sequential(
            nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(c3, c6, 3, padding=6, dilation=6),
            nn.ReLU(),
            nn.Conv2d(c6, c7, 1),
            nn.ReLU(),
        )
        self.extra = nn.ModuleList(
            [nn.Sequential(nn.MaxPool2d(2), *_conv3(c, c1), *_conv3(c1, c2), *_conv3(c2, c3), fc)]
        )
        c = c7
        for i, (narrow, wide) in enumerate(widths.extra):
            last = nn.Conv2d(narrow, wide, 3, stride=2, padding=1) if i < 2 else nn.Conv2d(narrow, wide, 3)
            self.extra.append(nn.Sequential(nn.Conv2d(c, narrow, 1), nn.ReLU(), last, nn.ReLU()))
            c = wide

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.features(x)
        found = [self.scale_weight.reshape(1, -1, 1, 1) * functional.normalize(x)]
        for block in self.extra:
            x = block(x)
            found.append(x)
        return found


class Ssd(DetectorModule):
    """SSD300-VGG16, of any widths."""

    def __init__(self, variant: str, widths: SsdWidths, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        mean, std = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)
        super().__init__(ssd_spec(variant, classes, BOXES, mean=mean, std=std, iou=0.45, max_det=200, top_k=400))
        self.stride = 1
        self.backbone = _Backbone(widths)
        channels = [widths.features[-1], widths.top[-1], *(wide for _, wide in widths.extra)]
        heads = [nn.Conv2d(c, a, 3, padding=1) for c, a in _outputs(channels, 4)]
        scores = [nn.Conv2d(c, a, 3, padding=1) for c, a in _outputs(channels, len(classes) + 1)]
        self.head = SsdHead(scores, heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level raw boxes (N, 4 * A, h, w) and class logits (N, (1 + classes) * A, h, w)."""
        raw: tuple[Tensor, ...] = self.head(self.backbone(x))
        return raw

    def small_input(self) -> Tensor:
        """Return a zero batch of the size that the network was made for; a smaller one ends before the last block."""
        return self.dummy_input((300, 300))


def _outputs(channels: Sequence[int], each: int) -> list[tuple[int, int]]:
    """Return channels in and out of a head's convolutions."""
    return [(c, each * count) for c, count in zip(channels, BOXES.per_cell(), strict=True)]


def read_widths(tensors: Mapping[str, Tensor]) -> SsdWidths | None:
    """Read the channels off the shapes; None where a convolution of the backbone is not there."""
    features = [f"backbone.features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)]
    top = [f"backbone.extra.0.{k}.weight" for k in ("1", "3", "5", "7.1", "7.3")]
    extra = [f"backbone.extra.{i}.{k}.weight" for i in (1, 2, 3, 4) for k in (0, 2)]
    if "backbone.scale_weight" not in tensors or any(n not in tensors for n in (*features, *top, *extra)):
        return None
    last = [len(tensors[n]) for n in extra]
    pairs = tuple(zip(last[::2], last[1::2], strict=True))
    return SsdWidths(tuple(len(tensors[n]) for n in features), tuple(len(tensors[n]) for n in top), pairs)
