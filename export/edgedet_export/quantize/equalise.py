"""Cross-layer equalisation: bring the channels of a tensor to like ranges before one 8-bit grid spans them all.

Where a channel passes from convolution to convolution through nothing but operations f with f(a x) = a f(x) for a > 0
(ReLU, pooling, resizing, concatenation, residual addition), the first may be divided and the second multiplied by any
factor: the network stays the same function, but a channel whose values are a hundredth of its neighbour's no longer
has two or three of the 256 codes to itself. Networks whose BatchNorms were folded, reparameterised ones (RepVGG) above
all, are full of such channels.

The factor of a channel is s = sqrt(x / w), with x its largest value and w its largest weight in the convolutions that
read it, both relative to the largest of their tensor: afterwards activations and weights have equal shares of the
imbalance. (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.1,
with measured ranges in place of those of the producer's weights, which are quantised per channel here.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.onnx_graph import OnnxGraph, attribute
from edgedet_export.quantize.layers import ConvLayer, find_layers
from edgedet_export.quantize.ranges import TensorStatistics

__all__ = ["Equalised", "equalise"]

Floats = npt.NDArray[np.float64]

_SAME_CHANNELS = frozenset(
    {"AveragePool", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "Relu", "Resize", "Upsample"}
)
_GATES = frozenset({"HardSigmoid", "Sigmoid"})
_LEAST_FACTOR = 2.0**-10  # of a channel that is all but dead
_WORTH_IT = 2.0  # factors all within this of each other change nothing that 8 bits could show


@dataclass(frozen=True, slots=True, eq=False)
class Equalised:
    """An equalised model.

    Attributes:
        model: Computes the same function.
        channels: How many channels of convolutions' inputs got a factor.
        spread: Largest factor over the smallest.
    """

    model: onnx.ModelProto
    channels: int
    spread: float


def equalise(model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics]) -> Equalised | None:
    """Equalise the channels of a model's convolutions.

    Args:
        model: FP32, with shapes inferred.
        statistics: Of its tensors, from calibration.

    Returns:
        The model with other weights and biases, names and structure untouched; None where no channel is free to be
        scaled or all are alike already.
    """
    graph = OnnxGraph(model)
    layers = find_layers(graph)
    links = _Links(graph)
    factors = _factors(graph, layers, links, statistics)
    free = factors[factors != 1.0]
    if not len(free) or float(free.max() / free.min()) < _WORTH_IT:
        return None
    for layer in layers:
        if layer.op_type == "Conv" and layer.data in links and layer.id in links:
            _rescale(graph, layer, factors[links.of(layer.data)], factors[links.of(layer.id)])
    return Equalised(graph.to_model(), len(free), float(free.max() / free.min()))


class _Links:
    """Which channels of which tensors must share a factor, and which must keep 1: a union-find over channels.

    Attributes:
        total: Number of channels of all tensors.
        free: bool (total,), which groups may have a factor other than 1.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        self._first: dict[str, int] = {}
        self._count: dict[str, int] = {}
        total = 0
        for name in [*graph.inputs, *(o for node in graph.nodes for o in node.output)]:
            shape = graph.shape(name)
            channels = shape[1] if shape is not None and len(shape) == 4 else None
            if channels is not None and graph.constant(name) is None:
                self._first[name], self._count[name] = total, channels
                total += channels
        self.total = total
        self._parent = np.arange(total)
        self._fixed = np.zeros(total, np.bool_)
        for name in (*graph.inputs, *graph.outputs):
            self._fix(name)
        for node in graph.nodes:
            self._visit(graph, node)
        self._root = np.array([self._find(i) for i in range(total)], np.intp)
        fixed_roots = np.zeros(total, np.bool_)
        fixed_roots[self._root[self._fixed]] = True
        self.free = ~fixed_roots[self._root]

    def of(self, tensor: str) -> npt.NDArray[np.intp]:
        """Return the groups of a tensor's channels, intp (C,)."""
        first = self._first[tensor]
        return np.asarray(self._root[first : first + self._count[tensor]], np.intp)

    def __contains__(self, tensor: str) -> bool:
        """Return whether a tensor has channels (four dimensions, as many channels as the shapes say)."""
        return tensor in self._first

    def _visit(self, graph: OnnxGraph, node: onnx.NodeProto) -> None:
        data = [name for name in node.input if name in self._first]
        made = [name for name in node.output if name in self._first]
        if node.op_type == "Conv" and len(data) == len(made) == 1:
            numbers = [name for name in node.input[1:] if name]
            if all(graph.constant(name) is not None for name in numbers):
                return None  # absorbs factors on both sides
        elif node.op_type in _SAME_CHANNELS and len(data) == len(made) == 1:
            return self._join(data[0], made[0])
        elif node.op_type == "Concat" and attribute(node, "axis", 0) in (1, -3) and len(data) == len(node.input):
            return self._join_parts(data, made[0])
        elif node.op_type == "Split" and attribute(node, "axis", 0) in (1, -3) and len(made) == len(node.output):
            return self._join_parts(made, data[0])
        elif node.op_type == "Add" and len(data) == 2 and self._count[data[0]] == self._count[data[1]]:
            self._join(data[0], made[0])
            return self._join(data[1], made[0])
        elif node.op_type == "Mul" and len(data) == 2 and self._count[data[0]] == self._count[data[1]]:
            gates = [n for n in data if (p := graph.producer(n)) is not None and p.op_type in _GATES]
            if len(gates) == 1:
                self._fix(gates[0])
                return self._join(data[1 - data.index(gates[0])], made[0])
        for name in (*data, *made):
            self._fix(name)
        return None

    def _fix(self, tensor: str) -> None:
        if tensor in self._first:
            first = self._first[tensor]
            self._fixed[first : first + self._count[tensor]] = True

    def _join(self, tensor: str, other: str, there: int = 0) -> None:
        """Link the channels of `tensor` with those of `other` from `there` on."""
        a, b = self._first[tensor], self._first[other] + there
        for i in range(self._count[tensor]):
            x, y = self._find(a + i), self._find(b + i)
            if x != y:
                self._parent[x] = y

    def _join_parts(self, parts: Sequence[str], whole: str) -> None:
        """Link tensors with the channels of the one that they are parts of, in order."""
        at = 0
        for name in parts:
            self._join(name, whole, there=at)
            at += self._count[name]

    def _find(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = int(self._parent[i])
        return i


def _factors(
    graph: OnnxGraph, layers: tuple[ConvLayer, ...], links: _Links, statistics: Mapping[str, TensorStatistics]
) -> Floats:
    """Return the factor of each group of channels, float64; 1 where it must be."""
    reach, weight = np.zeros(links.total), np.zeros(links.total)
    for layer in layers:
        found = statistics.get(layer.data)
        if layer.op_type != "Conv" or found is None or layer.data not in links:
            continue
        groups = links.of(layer.data)
        values = np.maximum(np.abs(found.channel_low), np.abs(found.channel_high))
        if len(values) == len(groups) and values.max() > 0:
            np.maximum.at(reach, groups, values / values.max())
            np.maximum.at(weight, groups, _relative_weights(graph, layer))
    known = links.free & (weight > 0)
    factors = np.ones(links.total)
    factors[known] = np.clip(np.sqrt(reach[known] / weight[known]), _LEAST_FACTOR, 1 / _LEAST_FACTOR)
    return factors


def _relative_weights(graph: OnnxGraph, layer: ConvLayer) -> Floats:
    """Return each input channel's largest weight, relative to the largest of the same output channel; float64 (C,)."""
    value = graph.constant(layer.weight)
    assert value is not None, "a ConvLayer has constant weights"
    size = np.abs(value.astype(np.float64)).reshape(*value.shape[:2], -1).max(axis=2)
    size /= np.maximum(size.max(axis=1, keepdims=True), 1e-30)
    return np.asarray(size.reshape(layer.groups, -1, size.shape[1]).max(axis=1).reshape(-1))


def _rescale(graph: OnnxGraph, layer: ConvLayer, before: Floats, after: Floats) -> None:
    """Multiply the weights by the factors of the input channels and divide them by those of the output channels."""
    node = graph.producer(layer.id)
    assert node is not None, "a layer's id is its output"
    if (before == 1).all() and (after == 1).all():
        return
    weight = graph.constant(layer.weight)
    assert weight is not None, "a ConvLayer has constant weights"
    inputs = np.repeat(before.reshape(layer.groups, -1), len(weight) // layer.groups, axis=0)
    scaled = weight.astype(np.float64) * inputs[:, :, None, None] / after[:, None, None, None]
    # Under names of its own: heads may share their weights between levels.
    graph.set_input(node, 1, graph.add_constant(f"{layer.id}/equalised", scaled.astype(np.float32)))
    if layer.bias is not None:
        bias = graph.constant(layer.bias)
        assert bias is not None, "linked only where it is constant"
        balanced = (bias.astype(np.float64) / after).astype(np.float32)
        graph.set_input(node, 2, graph.add_constant(f"{layer.id}/equalised_bias", balanced))
