"""Where onnxruntime's CPU kernels want their 8-bit grids.

onnxruntime has an integer convolution (QLinearConv) only with an 8-bit output, and turns it channels-last. It pays
when 8-bit tensors run through whole stretches of the network, so here, unlike for OpenVINO:

- the outputs of INT8 convolutions are quantized, and so is everything between them that has an integer kernel
  (Sigmoid and LeakyRelu as 256-entry tables, Mul, Add, pooling); SiLU computes in float, see `fuse_silu`;
- operations that only move numbers keep the grid of their input, and the inputs of a Concat share one grid where that
  costs little, so that they are copied and not rescaled (measured on YOLOv5n, 640 px: 3.4 ms → 1.6 ms);
- before SiLU, what lies below -10 is not resolved: SiLU makes it 0 anyway;
- a 1x1 head becomes an integer matrix product with float output (MatMulIntegerToFloat), because an 8-bit grid over
  logits and box offsets would cost accuracy, and a float convolution would need the features converted back;
- so does a 1x1 convolution before SiLU or another activation that has no integer kernel, which spares a grid and two
  conversions (measured on YOLOv5n, 640 px: 1.07 times as fast, and the detections agree better with those of FP32);
- depthwise convolutions are quantized as well: left in float, each costs two changes of layout.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from edgedet_export.onnx_graph import OnnxGraph, attribute
from edgedet_export.quantize.fuse_silu import SILU
from edgedet_export.quantize.layers import MOVES, ConvLayer, byte_source
from edgedet_export.quantize.number_format import NumberFormat
from edgedet_export.quantize.plan import Grid, KeptFloat, QuantPlan
from edgedet_export.quantize.tensor_ranges import TensorRanges

__all__ = ["place_onnxruntime"]

_CARRIERS = MOVES | {"Resize", "Upsample"}
_INTEGER_KERNELS = frozenset({"Add", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"})
_CLIPPING = frozenset({"Clip", "Relu"})
_PULLING = _CARRIERS | {"Add", "GlobalAveragePool"}  # quantized in front, if they are behind; else bytes change layout
_ON_BYTES = _CARRIERS | _INTEGER_KERNELS | _CLIPPING | {"Conv", "ConvTranspose"}
_HARD_SWISH = {"HardSigmoid", "Mul"}
_SILU_FLOOR = -10.0
_SHARE_LIMIT = 3.0  # a Concat's inputs share a grid where that makes no step more than this much coarser


def place_onnxruntime(
    graph: OnnxGraph,
    layers: tuple[ConvLayer, ...],
    ranges: TensorRanges,
    number_format: NumberFormat,
    keep_float: Mapping[str, str],
) -> QuantPlan:
    """Plan a file for onnxruntime; see `Target.place`."""
    quantized: list[ConvLayer] = []
    kept: list[KeptFloat] = []
    for layer in layers:
        reason = keep_float.get(layer.id) or _unsuited(layer)
        if reason:
            kept.append(KeptFloat(layer.id, reason, layer.macs))
        else:
            quantized.append(layer)
    products = tuple(layer.id for layer in quantized if layer.is_pointwise and _wants_floats(graph, layer))
    tensors = _spread(graph, quantized, products)
    return QuantPlan(
        grids=_grids(graph, tensors, ranges, number_format),
        everywhere=frozenset(tensors),
        layers=tuple(layer.id for layer in quantized),
        integer_products=products,
        kept=tuple(kept),
        number_format=number_format,
        bias="int32",
        copied_upsampling=True,
    )


def _unsuited(layer: ConvLayer) -> str:
    if layer.op_type == "ConvTranspose":
        return "transposed convolution: onnxruntime has no INT8 kernel"
    if layer.is_head and not layer.is_pointwise:
        return "head larger than 1x1: onnxruntime could give it 8-bit outputs only"
    return ""


def _wants_floats(graph: OnnxGraph, layer: ConvLayer) -> bool:
    """Return whether what reads a layer's output computes in float anyway, or cheaper so."""
    readers = {node.op_type for node in graph.consumers(layer.id)}
    return readers == _HARD_SWISH or not readers & (
        _CARRIERS | _INTEGER_KERNELS | _CLIPPING | {"Conv", "ConvTranspose"}
    )


def _spread(graph: OnnxGraph, layers: list[ConvLayer], products: Collection[str]) -> list[str]:
    """Return the tensors to quantize, in graph order: around the INT8 layers, and what lies between them."""
    found = {layer.data for layer in layers}
    found |= {_result(graph, layer.id) for layer in layers if layer.id not in products}
    size = -1
    while size != len(found):
        size = len(found)
        for node in graph.nodes:
            if _passes_on(graph, node, found):
                found.update(node.output)
        for node in reversed(graph.nodes):
            if node.op_type in _PULLING and found.intersection(node.output):
                found.update(_data_inputs(graph, node))
        found -= set(graph.outputs) | set(graph.inputs)
    order = [name for node in graph.nodes for name in node.output]
    return [name for name in order if name in found]


def _result(graph: OnnxGraph, tensor: str) -> str:
    """Return the tensor behind a Relu or Clip, which the convolution's own clipping replaces, else `tensor`."""
    reader = graph.only_consumer(tensor)
    if reader is not None and reader.op_type in _CLIPPING and reader.output[0] not in graph.outputs:
        return str(reader.output[0])
    return tensor


def _data_inputs(graph: OnnxGraph, node: onnx.NodeProto) -> list[str]:
    names = node.input if node.op_type in ("Add", "Concat", "Mul") else node.input[:1]
    return [n for n in names if n and graph.constant(n) is None and graph.elem_type(n) == onnx.TensorProto.FLOAT]


def _passes_on(graph: OnnxGraph, node: onnx.NodeProto, found: set[str]) -> bool:
    """Return whether a node should compute on 8-bit numbers, as its inputs are quantized."""
    if node.op_type not in _CARRIERS and node.op_type not in _INTEGER_KERNELS:
        return False
    if node.op_type in ("Resize", "Upsample") and attribute(node, "mode", "nearest") != "nearest":
        return False
    data = _data_inputs(graph, node)
    if node.op_type == "Concat":
        return any(name in found for name in data)
    if node.op_type in ("Add", "Mul") and len(data) != 2:
        return False
    return bool(data) and all(name in found for name in data)


def _grids(graph: OnnxGraph, tensors: list[str], ranges: TensorRanges, number_format: NumberFormat) -> dict[str, Grid]:
    grids: dict[str, Grid] = {}
    for members in _groups(graph, tensors, ranges):
        makers = [t for t in members if not _carries(graph, t)] or members[:1]
        grid = _grid(graph, makers, ranges, number_format)
        grids.update(dict.fromkeys(members, grid))
    return grids


def _carries(graph: OnnxGraph, tensor: str) -> bool:
    node = graph.producer(tensor)
    return node is not None and node.op_type in _CARRIERS


def _grid(graph: OnnxGraph, tensors: list[str], ranges: TensorRanges, number_format: NumberFormat) -> Grid:
    if all(byte_source(graph, t) for t in tensors):
        return Grid.exact_bytes(number_format)
    if len(tensors) > 1:
        return Grid.spanning(ranges.choose_joint(tensors), number_format)
    producer = graph.producer(tensors[0])
    if producer is not None and producer.op_type == "Sigmoid":
        signed = number_format.activations == "int8"
        return Grid(1 / 256, -128 if signed else 0, signed)
    readers = {n.op_type for n in graph.consumers(tensors[0])}
    floor = _SILU_FLOOR if readers == {SILU} else -float("inf")
    return Grid.spanning(ranges.choose(tensors[0], floor=floor), number_format)


def _groups(graph: OnnxGraph, tensors: list[str], ranges: TensorRanges) -> list[list[str]]:
    """Group tensors that share a grid, in graph order."""
    parent = {t: t for t in tensors}

    def root(t: str) -> str:
        while parent[t] != t:
            t = parent[t]
        return t

    for node in graph.nodes:
        if node.op_type not in _CARRIERS:
            continue
        outputs = [o for o in node.output if o in parent]
        data = [n for n in _data_inputs(graph, node) if n in parent]
        if not outputs or not data:
            continue
        if node.op_type == "Concat":
            low, high = ranges.choose(outputs[0])
            spans = {n: ranges.choose(n) for n in data}
            data = [n for n, (a, b) in spans.items() if (high - low) <= _SHARE_LIMIT * (b - a)]
        for name in [*data, *outputs[1:]]:
            parent[root(name)] = root(outputs[0])
    groups: dict[str, list[str]] = {}
    for t in tensors:
        groups.setdefault(root(t), []).append(t)
    return list(groups.values())
