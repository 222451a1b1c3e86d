"""SSDLite on MobileNetV3-Large (Howard et al. 2019, section 6.3), with torchvision's key names, of any widths.

torchvision cuts the backbone inside its 13th inverted residual: features of stride 16 are what its first convolution
makes. It builds the tail (the last residuals) at half the width unless it starts from an ImageNet backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from edgedet_models.backbones.cell import Cell
from edgedet_models.backbones.mobilenet_v3 import BLOCKS, EPS, Block, InvertedResidual
from edgedet_models.detector import DetectorModule
from edgedet_models.ssd.head import SsdHead
from edgedet_models.ssd.spec import DefaultBoxes, ssd_spec

__all__ = ["BOXES", "FULL_TAIL", "REDUCED_TAIL", "LiteWidths", "SsdLite", "read_lite_widths"]

CUT = 12
"""Position in the table of the residual that is cut: its first convolution ends the fine features."""
BOXES = DefaultBoxes(
    size=320,
    scales=(0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0),
    ratios=((2, 3),) * 6,
    strides=(16, 32, 64, 107, 160, 320),
    exact=False,
)


@dataclass(frozen=True, slots=True)
class LiteWidths:
    """Channels of an SSDLite.

    Attributes:
        stem: Of the first convolution.
        blocks: Inner and outer channels of the fifteen inverted residuals.
        last: Of the last 1×1 convolution of the backbone.
        extra: Inner and outer channels of the four blocks behind.
    """

    stem: int
    blocks: tuple[tuple[int, int], ...]
    last: int
    extra: tuple[tuple[int, int], ...]


_TABLE = tuple((hidden, out) for _, hidden, out, *_ in BLOCKS["large"])
FULL_TAIL = LiteWidths(16, _TABLE, 960, ((256, 512), (128, 256), (128, 256), (64, 128)))
REDUCED_TAIL = replace(FULL_TAIL, blocks=(*_TABLE[:CUT], (672, 80), (480, 80), (480, 80)), last=480)


def _residual(c_in: int, row: Block, widths: tuple[int, int]) -> InvertedResidual:
    kernel, _, _, gate, act, stride = row
    return InvertedResidual(c_in, (kernel, *widths, gate, act, stride), 1.0)


class _Backbone(nn.Module):
    def __init__(self, widths: LiteWidths) -> None:
        super().__init__()
        fine: list[nn.Module] = [Cell(3, widths.stem, 3, 2, act="hardswish", eps=EPS)]
        coarse: list[nn.Module] = []
        c = widths.stem
        for i, (row, size) in enumerate(zip(BLOCKS["large"], widths.blocks, strict=True)):
            block = _residual(c, row, size)
            if i == CUT:
                parts = dict(block.block.named_children())
                fine.append(parts.pop("0"))
                rest = nn.Sequential()
                for name, part in parts.items():
                    rest.add_module(name, part)
                coarse.append(rest)
            else:
                (fine if i < CUT else coarse).append(block)
            c = size[1]
        coarse.append(Cell(c, widths.last, act="hardswish", eps=EPS))
        self.features = nn.Sequential(nn.Sequential(*fine), nn.Sequential(*coarse))
        self.extra = nn.ModuleList()
        c = widths.last
        for narrow, wide in widths.extra:
            self.extra.append(
                nn.Sequential(
                    Cell(c, narrow, act="relu6", eps=EPS),
                    Cell(narrow, narrow, 3, 2, groups=narrow, act="relu6", eps=EPS),
                    Cell(narrow, wide, act="relu6", eps=EPS),
                )
            )
            c = wide

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for part in (*self.features, *self.extra):
            x = part(x)
            found.append(x)
        return found


class SsdLite(DetectorModule):
    """SSDLite320-MobileNetV3-Large."""

    def __init__(self, variant: str, widths: LiteWidths, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        half = (0.5, 0.5, 0.5)
        super().__init__(ssd_spec(variant, classes, BOXES, mean=half, std=half, iou=0.55, max_det=300, top_k=300))
        self.stride = 1
        self.backbone = _Backbone(widths)
        channels = [widths.blocks[CUT][0], widths.last, *(wide for _, wide in widths.extra)]
        self.head = SsdHead(*(_convolutions(channels, each) for each in (len(classes) + 1, 4)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level raw boxes (N, 4 * A, h, w) and class logits (N, (1 + classes) * A, h, w)."""
        raw: tuple[Tensor, ...] = self.head(self.backbone(x))
        return raw

    def small_input(self) -> Tensor:
        """Return a zero batch of two cells of the finest level."""
        return self.dummy_input((64, 64))


def _convolutions(channels: list[int], each: int) -> list[nn.Module]:
    return [
        nn.Sequential(Cell(c, c, 3, groups=c, act="relu6", eps=EPS), nn.Conv2d(c, each * count, 1))
        for c, count in zip(channels, BOXES.per_cell(), strict=True)
    ]


def read_lite_widths(tensors: Mapping[str, Tensor]) -> LiteWidths | None:
    """Read the channels off the shapes; None where a convolution of the backbone is not there.

    A residual's inner channels are those of its depthwise convolution, its outer ones those of its last.
    """

    def rows(name: str) -> int:
        return len(tensors[name])

    blocks: list[tuple[int, int]] = []
    try:
        stem = rows("backbone.features.0.0.0.weight")
        for i, row in enumerate(BLOCKS["large"]):
            if i == CUT:
                blocks.append((rows("backbone.features.0.13.0.weight"), rows("backbone.features.1.0.3.0.weight")))
                continue
            key = f"backbone.features.0.{i + 1}" if i < CUT else f"backbone.features.1.{i - CUT}"
            widens = f"{key}.block.{2 + row[3]}.0.weight" in tensors
            depthwise = rows(f"{key}.block.{int(widens)}.0.weight")
            blocks.append((depthwise, rows(f"{key}.block.{int(widens) + 1 + row[3]}.0.weight")))
        last = rows("backbone.features.1.3.0.weight")
        extra = tuple(
            (rows(f"backbone.extra.{i}.0.0.weight"), rows(f"backbone.extra.{i}.2.0.weight")) for i in range(4)
        )
    except (KeyError, TypeError):
        return None
    return LiteWidths(stem, tuple(blocks), last, extra)
