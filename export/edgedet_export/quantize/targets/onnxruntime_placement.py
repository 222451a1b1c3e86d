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

import onnx_ir as ir

from edgedet_export.graph.edits import by_name
from edgedet_export.graph.values import attribute, constant, elem_type, name_of, only_reader
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
    graph: ir.Graph,
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
    values = by_name(graph)
    products = tuple(la.id for la in quantized if la.is_pointwise and _wants_floats(values[la.id]))
    tensors = _spread(graph, values, quantized, products)
    return QuantPlan(
        grids=_grids(graph, [values[name] for name in tensors], ranges, number_format),
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


def _wants_floats(value: ir.Value) -> bool:
    """Return whether what reads a layer's output computes in float anyway, or cheaper so."""
    readers = {node.op_type for node in value.consumers()}
    return readers == _HARD_SWISH or not readers & _ON_BYTES


def _spread(
    graph: ir.Graph, values: Mapping[str, ir.Value], layers: list[ConvLayer], products: Collection[str]
) -> list[str]:
    """Return the tensors to quantize, in graph order: around the INT8 layers, and what lies between them."""
    found = {values[layer.data] for layer in layers}
    found |= {_result(values[layer.id]) for layer in layers if layer.id not in products}
    outside = {*graph.inputs, *graph.outputs}
    size = None
    while size != len(found):
        size = len(found)
        for node in graph:
            if _passes_on(node, found):
                found.update(node.outputs)
        for node in reversed(graph):
            if node.op_type in _PULLING and found.intersection(node.outputs):
                found.update(_data_inputs(node))
        found -= outside
    return [name_of(value) for node in graph for value in node.outputs if value in found]


def _result(value: ir.Value) -> ir.Value:
    """Return the tensor behind a Relu or Clip, which the convolution's own clipping replaces, else `value`."""
    reader = only_reader(value)
    if reader is not None and reader.op_type in _CLIPPING and not reader.outputs[0].is_graph_output():
        return reader.outputs[0]
    return value


def _data_inputs(node: ir.Node) -> list[ir.Value]:
    values = node.inputs if node.op_type in ("Add", "Concat", "Mul") else node.inputs[:1]
    given = [value for value in values if value is not None]
    return [value for value in given if constant(value) is None and elem_type(value) == ir.DataType.FLOAT]


def _passes_on(node: ir.Node, found: Collection[ir.Value]) -> bool:
    """Return whether a node should compute on 8-bit numbers, as its inputs are quantized."""
    if node.op_type not in _CARRIERS and node.op_type not in _INTEGER_KERNELS:
        return False
    if node.op_type in ("Resize", "Upsample") and attribute(node, "mode", "nearest") != "nearest":
        return False
    data = _data_inputs(node)
    if node.op_type == "Concat":
        return any(value in found for value in data)
    if node.op_type in ("Add", "Mul") and len(data) != 2:
        return False
    return bool(data) and all(value in found for value in data)


def _grids(
    graph: ir.Graph, tensors: list[ir.Value], ranges: TensorRanges, number_format: NumberFormat
) -> dict[str, Grid]:
    grids: dict[str, Grid] = {}
    for members in _groups(graph, tensors, ranges):
        makers = [value for value in members if _made_by(value) not in _CARRIERS] or members[:1]
        grid = _grid(makers, ranges, number_format)
        grids.update((name_of(value), grid) for value in members)
    return grids


def _made_by(value: ir.Value) -> str:
    node = value.producer()
    assert node is not None, "inputs of the graph are not quantized"
    return node.op_type


def _grid(values: list[ir.Value], ranges: TensorRanges, number_format: NumberFormat) -> Grid:
    if all(byte_source(value) for value in values):
        return Grid.exact_bytes(number_format)
    if len(values) > 1:
        return Grid.spanning(ranges.choose_joint([name_of(value) for value in values]), number_format)
    if _made_by(values[0]) == "Sigmoid":
        signed = number_format.activations == "int8"
        return Grid(1 / 256, -128 if signed else 0, signed)
    readers = {node.op_type for node in values[0].consumers()}
    floor = _SILU_FLOOR if readers == {SILU} else -float("inf")
    return Grid.spanning(ranges.choose(name_of(values[0]), floor=floor), number_format)


def _groups(graph: ir.Graph, tensors: list[ir.Value], ranges: TensorRanges) -> list[list[ir.Value]]:
    """Group tensors that share a grid, in graph order."""
    parent = {value: value for value in tensors}

    def root(value: ir.Value) -> ir.Value:
        while parent[value] is not value:
            value = parent[value]
        return value

    for node in graph:
        if node.op_type not in _CARRIERS:
            continue
        outputs = [value for value in node.outputs if value in parent]
        data = [value for value in _data_inputs(node) if value in parent]
        if not outputs or not data:
            continue
        if node.op_type == "Concat":
            low, high = ranges.choose(name_of(outputs[0]))
            spans = {value: ranges.choose(name_of(value)) for value in data}
            data = [value for value, (a, b) in spans.items() if (high - low) <= _SHARE_LIMIT * (b - a)]
        for value in (*data, *outputs):
            parent[root(value)] = root(outputs[0])
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in tensors:
        groups.setdefault(root(value), []).append(value)
    return list(groups.values())
