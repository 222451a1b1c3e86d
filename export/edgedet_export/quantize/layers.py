"""The layers that can be quantized: convolutions with constant weights, found by the graph's topology.

A layer's id is the name of its output tensor, which is unique and which engines keep in their profiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edgedet_export.onnx_graph import OnnxGraph, attribute
from edgedet_runtime.errors import ModelFileError

__all__ = ["MOVES", "ConvLayer", "byte_source", "find_layers", "total_macs"]

# Operations that move numbers and change none; their outputs live on the grid of their input.
MOVES = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """One convolution.

    Attributes:
        id: Name of its output tensor.
        op_type: ``Conv`` or ``ConvTranspose``.
        data: Name of its input tensor.
        weight: Name of its weight tensor.
        bias: Name of its bias tensor, or None.
        weight_shape: As ONNX stores it.
        groups: Number of groups.
        macs: Multiply-accumulates for one picture.
        is_head: Its output is an output of the graph.
        is_pointwise: 1x1, stride 1, no padding, one group.
    """

    id: str
    op_type: str
    data: str
    weight: str
    bias: str | None
    weight_shape: tuple[int, ...]
    groups: int
    macs: int
    is_head: bool
    is_pointwise: bool

    @property
    def is_depthwise(self) -> bool:
        """One input channel per group."""
        return self.groups > 1 and self.weight_shape[1] == 1


def find_layers(graph: OnnxGraph) -> tuple[ConvLayer, ...]:
    """Find all convolutions with constant weights, in graph order.

    Args:
        graph: With shapes inferred.

    Raises:
        ModelFileError: A shape is not known, or nothing is found.
    """
    found = [
        _layer(graph, n) for n in graph.nodes_of("Conv", "ConvTranspose") if graph.constant(n.input[1]) is not None
    ]
    if not found:
        raise ModelFileError("INT8: expected convolutions with constant weights, found none")
    return tuple(found)


def total_macs(layers: Sequence[ConvLayer]) -> int:
    """Return the multiply-accumulates of all layers for one picture."""
    return sum(layer.macs for layer in layers)


def _layer(graph: OnnxGraph, node: onnx.NodeProto) -> ConvLayer:
    weight = graph.constant(node.input[1])
    assert weight is not None, "checked by find_layers"
    transposed = node.op_type == "ConvTranspose"
    moved = graph.shape(node.input[0] if transposed else node.output[0])
    if moved is None or len(moved) < 3 or any(d is None for d in moved[1:]):
        raise ModelFileError(f"INT8: the size of {node.output[0]} is not known (got {moved}); use a fixed input size")
    cells = math.prod(d or 1 for d in moved[1:])
    stride, pads = attribute(node, "strides", [1]), attribute(node, "pads", [0])
    groups = int(attribute(node, "group", 1))
    plain = set(weight.shape[2:]) == {1} and set(stride) == {1} and not any(pads) and groups == 1
    return ConvLayer(
        id=node.output[0],
        op_type=node.op_type,
        data=node.input[0],
        weight=node.input[1],
        bias=node.input[2] if len(node.input) > 2 and node.input[2] else None,
        weight_shape=tuple(weight.shape),
        groups=groups,
        macs=cells * int(np.prod(weight.shape[1:])),
        is_head=node.output[0] in graph.outputs,
        is_pointwise=plain
        and not transposed
        and weight.ndim == 4
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET",
    )


def byte_source(graph: OnnxGraph, tensor: str) -> bool:
    """Return whether a tensor holds whole numbers 0..255 that only were moved since a cast from bytes."""
    node = graph.producer(tensor)
    while node is not None:
        if node.op_type == "Cast":
            return graph.elem_type(node.input[0]) == onnx.TensorProto.UINT8
        if node.op_type == "Concat":
            return all(byte_source(graph, name) for name in node.input)
        if node.op_type not in MOVES or not node.input:
            return False
        node = graph.producer(node.input[0])
    return False
