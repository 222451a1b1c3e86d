"""Ultralytics' RT-DETR networks, untrained: HGNetv2 or ResNet, the hybrid encoder, and a head of queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_models.detr.decoder import RefiningDecoder
from edgedet_models.detr.encoder import EncoderLayer, OverMap
from edgedet_models.detr.query_head import QueryHead, projection
from edgedet_models.detr.shape import QueryShape
from edgedet_models.detr.spec import query_spec
from edgedet_models.layer_list.network import LayerListDetector, Wiring
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.hgnet import HgBlock, HgStem
from edgedet_models.layers.junctions import Concat
from edgedet_models.layers.rep_stage import RepStage
from edgedet_models.layers.resnet import ResNetStage
from edgedet_models.ultralytics.build import BN_EPS, BN_MOMENTUM, OWN_LICENCE

__all__ = ["CONF", "RTDETR_BUILDERS", "name_rtdetr"]

FAMILY = "ultralytics"
CONF = 0.25
LEVELS, LAYERS, QUERIES = 3, 6, 300


@dataclass(slots=True)
class _Writer:
    """Collects layers and what they read."""

    layers: list[nn.Module] = field(default_factory=list)
    wiring: list[Wiring] = field(default_factory=list)

    def add(self, layer: nn.Module, source: int | Sequence[int] = -1) -> int:
        """Append a layer and return its index."""
        self.wiring.append(Wiring.resolve(source, len(self.layers)))
        self.layers.append(layer)
        return len(self.layers) - 1

    def join(self, source: int) -> int:
        """Append the concatenation of the layer before and an earlier one."""
        return self.add(Concat(), (-1, source))


def _hgnet(writer: _Writer, stem: int, stages: Sequence[tuple[int, int, int, bool]]) -> list[tuple[int, int]]:
    """Append HGNetv2; return index and width of the last layer of each stage but the first.

    Args:
        writer: Where to.
        stem: Output channels of the stem.
        stages: Inner channels, output channels, blocks and whether cells are light, of each stage.
    """
    writer.add(HgStem(3, 32, stem))
    width = stem
    ends: list[tuple[int, int]] = []
    for stage, (inner, c_out, blocks, light) in enumerate(stages):
        if stage:
            writer.add(ConvBnAct(width, width, 3, 2, groups=width, act="identity"))
        for block in range(blocks):
            kernel = 5 if light else 3
            writer.add(HgBlock(width, inner, c_out, kernel, cells=6, light=light, add=block > 0))
            width = c_out
        ends.append((len(writer.layers) - 1, width))
    return ends[1:]


def _resnet(writer: _Writer, cells: Sequence[int]) -> list[tuple[int, int]]:
    """Append a ResNet of bottlenecks; return index and width of its last three stages."""
    writer.add(ResNetStage(3, 64, cells=1, stride=1, first=True))
    width, ends = 64, []
    for stage, count in enumerate(cells):
        inner = 64 << stage
        ends.append((writer.add(ResNetStage(width, inner, cells=count, stride=1 if stage == 0 else 2)), 4 * inner))
        width = 4 * inner
    return ends[1:]


def _hybrid_encoder(writer: _Writer, features: Sequence[tuple[int, int]], width: int, ffn: int) -> list[int]:
    """Append attention over the coarsest map and a path aggregation; return the layers that the head reads."""
    (fine, c_fine), (middle, c_middle), (coarse, c_coarse) = features
    writer.add(ConvBnAct(c_coarse, width, act="identity"), coarse)
    writer.add(OverMap([EncoderLayer(width, 8, ffn)]))
    laterals = [writer.add(ConvBnAct(width, width))]
    outputs = []
    for source, c_in in ((middle, c_middle), (fine, c_fine)):
        up = writer.add(nn.Upsample(scale_factor=2.0, mode="nearest"))
        writer.add(ConvBnAct(c_in, width, act="identity"), source)
        writer.add(Concat(), (up, -1))
        outputs.append(writer.add(RepStage(2 * width, width)))
        if source == middle:
            laterals.append(writer.add(ConvBnAct(width, width)))
    for lateral in reversed(laterals):
        writer.add(ConvBnAct(width, width, 3, 2))
        writer.join(lateral)
        outputs.append(writer.add(RepStage(2 * width, width)))
    return outputs[1:]


def _build(
    variant: str, backbone: Callable[[_Writer], list[tuple[int, int]]], width: int, ffn: int, classes: tuple[str, ...]
) -> DetectorModule:
    writer = _Writer()
    levels = _hybrid_encoder(writer, backbone(writer), width, ffn)
    shape = QueryShape(256, 8, (4,) * LEVELS, LAYERS, 1024, QUERIES, len(classes))
    projections = [projection(width, shape.hidden) for _ in levels]
    writer.add(QueryHead(shape, projections, RefiningDecoder(shape)), levels)
    for layer in writer.layers:
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = BN_EPS, BN_MOMENTUM
    spec = query_spec(
        family=FAMILY,
        variant=variant,
        licence=OWN_LICENCE,
        classes=classes,
        size_hw=(640, 640),
        queries=shape.queries,
        conf=CONF,
    )
    return LayerListDetector(spec, writer.layers, writer.wiring)


_L = ((48, 128, 1, False), (96, 512, 1, False), (192, 1024, 3, True), (384, 2048, 1, True))
_X = ((64, 128, 1, False), (128, 512, 2, False), (256, 1024, 5, True), (512, 2048, 2, True))

RTDETR_BUILDERS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    "rtdetr-l": partial(_build, "rtdetr-l", partial(_hgnet, stem=48, stages=_L), 256, 1024),
    "rtdetr-x": partial(_build, "rtdetr-x", partial(_hgnet, stem=64, stages=_X), 384, 2048),
    "rtdetr-resnet50": partial(_build, "rtdetr-resnet50", partial(_resnet, cells=(3, 4, 6, 3)), 256, 1024),
    "rtdetr-resnet101": partial(_build, "rtdetr-resnet101", partial(_resnet, cells=(3, 4, 23, 3)), 256, 1024),
}
"""Builders by variant; the argument is the class names."""


def name_rtdetr(layers: Sequence[Mapping[str, Tensor]], decoder_layers: int, queries: int) -> str:
    """Return the published name of a network from a file by the shapes of its weights; ``custom`` without one.

    Args:
        layers: The weights of each layer, without the head's.
        decoder_layers: Of the head.
        queries: Of the head.
    """
    if (decoder_layers, queries) != (LAYERS, QUERIES):
        return "custom"
    found = [_shapes(layer) for layer in layers]
    for variant, build in RTDETR_BUILDERS.items():
        with torch.device("meta"):
            model = build(("class0",))
        assert isinstance(model, LayerListDetector), "built here"
        if [_shapes(layer.state_dict()) for layer in model.model[:-1]] == found:
            return variant
    return "custom"


def _shapes(tensors: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    return sorted(tuple(tensor.shape) for tensor in tensors.values())
