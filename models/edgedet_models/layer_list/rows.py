"""Networks written down as rows, scaled by a depth and a width multiple, and built from scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from edgedet_models.layer_list.network import LayerListDetector, Wiring, measure_strides
from edgedet_models.layer_list.spec import Anchors, anchor_spec
from edgedet_models.layers.aspp import Aspp
from edgedet_models.layers.cbam import Cbam
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.csp import C3
from edgedet_models.layers.focus_stem import FocusStem
from edgedet_models.layers.head import AnchorHead
from edgedet_models.layers.junctions import Concat
from edgedet_models.layers.octave import C3Octave
from edgedet_models.layers.rep_conv import RepConv
from edgedet_models.layers.space_to_depth import SpaceToDepth
from edgedet_models.layers.spp import Spp, SppCspc, Sppf
from edgedet_models.layers.squeeze_excite import ChannelGate
from edgedet_runtime.spec import ScoreKind

__all__ = ["Layout", "Row", "build_rows", "scale"]

BN_EPS = 1e-3
BN_MOMENTUM = 0.03


@dataclass(frozen=True, slots=True)
class Row:
    """One layer.

    Attributes:
        kind: A key of `KINDS`, or of what `build_rows` is given beside them.
        channels: Output channels, where the layer has its own.
        repeats: Residual cells of a CSP stage.
        kernel: Kernel of a cell or pool.
        stride: Stride of a cell or pool.
        source: Index of the layer that it reads, negative ones counted from here; several for layers that
            join.
        padding: Padding of a cell where it is not half the kernel.
        add: Whether the residual cells of a CSP stage add their input.
        act: Activation of a cell.
    """

    kind: str
    channels: int = 0
    repeats: int = 1
    kernel: int = 1
    stride: int = 1
    source: int | tuple[int, ...] = -1
    padding: int | None = None
    add: bool = True
    act: str = "silu"


def _cell(row: Row, c: int) -> nn.Module:
    return ConvBnAct(c, row.channels, row.kernel, row.stride, padding=row.padding, act=row.act)


@dataclass(frozen=True, slots=True)
class Layout:
    """An architecture before scaling.

    Attributes:
        rows: Layers before the head.
        levels: Layers that the head reads, finest first.
        anchors_px: Anchor sizes per level, in input pixels.
        suffix: What the variant's name ends with.
        implicit: Whether the head has YOLOv7's implicit layers.
    """

    rows: tuple[Row, ...]
    levels: tuple[int, ...]
    anchors_px: Sequence[Anchors]
    suffix: str = ""
    implicit: bool = False


Builder = Callable[[Row, int], nn.Module]

KINDS: Mapping[str, Builder] = {
    "aspp": lambda row, c: Aspp(c, row.channels),
    "c3-octave": lambda row, c: C3Octave(c, row.channels, row.repeats, add=row.add),
    "cbam": lambda row, c: Cbam(c, max(8, c // 16)),
    "c3": lambda row, c: C3(c, row.channels, row.repeats, add=row.add),
    "cell": _cell,
    "concat": lambda row, c: Concat(),
    "focus": lambda row, c: FocusStem(c, row.channels, row.kernel),
    "pool": lambda row, c: nn.MaxPool2d(row.kernel, row.stride, row.kernel // 2 if row.stride == 1 else 0),
    "rep": lambda row, c: RepConv(c, row.channels),
    "se": lambda row, c: ChannelGate(c, max(8, c // 16), act="silu"),
    "space-to-depth": lambda row, c: SpaceToDepth(),
    "spp": lambda row, c: Spp(c, row.channels),
    "spp-cspc": lambda row, c: SppCspc(c, row.channels),
    "sppf": lambda row, c: Sppf(c, row.channels),
    "up": lambda row, c: nn.Upsample(scale_factor=2.0, mode="nearest"),
}
"""Builders by kind, from the row and the input channels."""


def scale(layout: Layout, *, depth: float, width: float) -> Layout:
    """Scale repeats by `depth`, channels by `width` to multiples of 8: YOLOv5's compound scaling."""
    rows = (
        replace(
            row,
            channels=math.ceil(row.channels * width / 8) * 8,
            repeats=max(round(row.repeats * depth), 1) if row.repeats > 1 else row.repeats,
        )
        for row in layout.rows
    )
    return replace(layout, rows=tuple(rows))


def build_rows(
    layout: Layout,
    classes: tuple[str, ...],
    *,
    family: str,
    variant: str,
    licence: str,
    score: ScoreKind = "obj*cls",
    parts: Mapping[str, Builder] | None = None,
) -> LayerListDetector:
    """Build an untrained detector.

    Args:
        layout: The architecture, scaled already.
        classes: Class names.
        family: Registry name.
        variant: Such as ``yolov5n``.
        licence: Licence class that the contract names.
        score: ``obj`` leaves the class outputs away.
        parts: Builders by kind beside `KINDS`; the epsilons of their BatchNorms stay as built.
    """
    kinds = {**KINDS, **(parts or {})}
    layers: list[nn.Module] = []
    wiring: list[Wiring] = []
    channels: list[int] = []
    for index, row in enumerate(layout.rows):
        wire = Wiring.resolve(row.source, index)
        c_in = sum(channels[s] if s >= 0 else 3 for s in wire.sources)
        layers.append(kinds[row.kind](row, c_in))
        wiring.append(wire)
        channels.append(row.channels or (4 * c_in if row.kind == "space-to-depth" else c_in))
    head = AnchorHead(
        [channels[i] for i in layout.levels],
        len(layout.anchors_px[0]),
        len(classes),
        implicit=layout.implicit,
        scores=score != "obj",
    )
    layers.append(head)
    wiring.append(Wiring(layout.levels, many=True))
    strides = measure_strides(layers, wiring)
    head.reset_bias(strides)
    for row, layer in zip(layout.rows, layers, strict=False):  # the head has none
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = BN_EPS if row.kind in KINDS else module.eps
                module.momentum = BN_MOMENTUM
    spec = anchor_spec(
        family=family,
        variant=variant,
        licence=licence,
        classes=classes,
        strides=strides,
        anchors_px=layout.anchors_px,
        score=score,
    )
    return LayerListDetector(spec, layers, wiring)
