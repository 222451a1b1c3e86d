"""Untrained detectors from rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from edgedet_models.layer_list.network import Wiring, measure_strides
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.distance_head import DistanceHead
from edgedet_models.ultralytics.network import DistanceDetector
from edgedet_models.ultralytics.parts import PARTS
from edgedet_models.ultralytics.rows import Layout
from edgedet_models.ultralytics.spec import distance_spec
from edgedet_runtime.spec import Thresholds

__all__ = ["HeadStyle", "build_rows"]

BN_EPS, BN_MOMENTUM = 1e-3, 0.03
OWN_LICENCE = "Apache-2.0"
"""Networks that are built here, untrained, derive from nobody's code or weights."""


@dataclass(frozen=True, slots=True)
class HeadStyle:
    """Where the heads of Ultralytics' code and YOLOv9's own differ.

    Attributes:
        groups: Groups of the second 3×3 cell and of the last convolution of the box chains.
        class_factor: Class chains are as wide as the classes times this, or the finest feature.
        most_classes: …but no wider than this for the classes' sake.
    """

    groups: int = 1
    class_factor: int = 1
    most_classes: int = 100


def build_rows(
    layout: Layout,
    classes: tuple[str, ...],
    *,
    family: str,
    variant: str,
    style: HeadStyle = HeadStyle(),
    thresholds: Thresholds | None = None,
) -> DistanceDetector:
    """Build an untrained detector; with both heads where the layout has two.

    Args:
        layout: The architecture, scaled already.
        classes: Class names.
        family: Registry name.
        variant: Such as ``yolov8n``.
        style: Details of the head.
        thresholds: Defaults of the official prediction; None: Ultralytics'.
    """
    layers: list[nn.Module] = []
    wiring: list[Wiring] = []
    channels: list[int] = []
    for index, row in enumerate(layout.rows):
        wire = Wiring.resolve(row.source, index)
        c_in = sum(channels[s] if s >= 0 else 3 for s in wire.sources)
        if row.kind == "CBFuse":
            c_in = channels[index - 1]
        layers.append(PARTS[row.kind](row, c_in))
        wiring.append(wire)
        channels.append(row.channels or c_in)
    layers.append(_head(layout, [channels[level] for level in layout.levels], len(classes), style))
    wiring.append(Wiring(layout.levels, many=True))
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = BN_EPS, BN_MOMENTUM
    strides = measure_strides(layers, wiring)
    spec = distance_spec(
        family=family,
        variant=variant,
        licence=OWN_LICENCE,
        classes=classes,
        strides=strides,
        bins=layout.bins,
        size_px=1280 if max(strides) >= 64 else 640,
        thresholds=thresholds,
    )
    detector = DistanceDetector(spec, layers, wiring)
    detector.head.reset_bias(strides, bins=layout.bins)
    return detector


def _head(layout: Layout, channels: list[int], classes: int, style: HeadStyle) -> DistanceHead:
    box = max(16, channels[0] // 4, 4 * layout.bins)
    wide = max(channels[0], min(style.class_factor * classes, style.most_classes))

    def chains() -> tuple[list[nn.Module], list[nn.Module]]:
        boxes: list[nn.Module] = [
            nn.Sequential(
                ConvBnAct(c, box, 3),
                ConvBnAct(box, box, 3, groups=style.groups),
                nn.Conv2d(box, 4 * layout.bins, 1, groups=style.groups),
            )
            for c in channels
        ]
        scores: list[nn.Module] = [
            nn.Sequential(
                _class_cell(c, wide, dense=layout.dense_classes),
                _class_cell(wide, wide, dense=layout.dense_classes),
                nn.Conv2d(wide, classes, 1),
            )
            for c in channels
        ]
        return boxes, scores

    boxes, scores = chains()
    return DistanceHead(boxes, scores, chains() if layout.two_heads else None)


def _class_cell(c_in: int, c_out: int, *, dense: bool) -> nn.Module:
    if dense:
        return ConvBnAct(c_in, c_out, 3)
    return nn.Sequential(ConvBnAct(c_in, c_in, 3, groups=c_in), ConvBnAct(c_in, c_out))
