"""The layers that can be quantized: convolutions with constant weights, found by the graph's topology.

A layer's id is the name of its output tensor, which is unique and which engines keep in their profiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgedet_export.graph.values import attribute, constant, dims, elem_type, input_at, name_of
from edgedet_export.graph.walks import nodes_of
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


def find_layers(graph: ir.Graph) -> tuple[ConvLayer, ...]:
    """Find all convolutions with constant weights, in graph order.

    Args:
        graph: With shapes inferred.

    Raises:
        ModelFileError: A shape is not known, or nothing is found.
    """
    convolutions = nodes_of(graph, "Conv", "ConvTranspose")
    found = [_layer(node) for node in convolutions if constant(node.inputs[1]) is not None]
    if not found:
        raise ModelFileError("INT8: expected convolutions with constant weights, found none")
    return tuple(found)


def total_macs(layers: Sequence[ConvLayer]) -> int:
    """Return the multiply-accumulates of all layers for one picture."""
    return sum(layer.macs for layer in layers)


def _layer(node: ir.Node) -> ConvLayer:
    data, weights, made, bias = node.inputs[0], node.inputs[1], node.outputs[0], input_at(node, 2)
    weight = constant(weights)
    assert weight is not None, "checked by find_layers"
    assert data is not None, "a convolution reads something"
    assert weights is not None, "it is constant"
    transposed = node.op_type == "ConvTranspose"
    found = dims(data if transposed else made) or ()
    moved = [d for d in found[1:] if d is not None]  # channels, height and width; any number of pictures
    if len(moved) != weight.ndim - 1:
        raise ModelFileError(f"INT8: the size of {made.name} is not known (got {found}); use a fixed input size")
    cells = math.prod(moved)
    stride, pads = attribute(node, "strides", [1]), attribute(node, "pads", [0])
    groups = int(attribute(node, "group", 1))
    plain = set(weight.shape[2:]) == {1} and set(stride) == {1} and not any(pads) and groups == 1
    return ConvLayer(
        id=name_of(made),
        op_type=node.op_type,
        data=name_of(data),
        weight=name_of(weights),
        bias=None if bias is None else bias.name,
        weight_shape=tuple(weight.shape),
        groups=groups,
        macs=cells * int(np.prod(weight.shape[1:])),
        is_head=made.is_graph_output(),
        is_pointwise=plain
        and not transposed
        and weight.ndim == 4
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET",
    )


def byte_source(value: ir.Value) -> bool:
    """Return whether a tensor holds whole numbers 0..255 that only were moved since a cast from bytes."""
    node = value.producer()
    while node is not None:
        if node.op_type == "Concat":
            return all(byte_source(part) for part in node.inputs if part is not None)
        if node.op_type != "Cast" and node.op_type not in MOVES:
            return False
        source = node.inputs[0]
        assert source is not None, "what moves or casts numbers reads some"
        if node.op_type == "Cast":
            return elem_type(source) == ir.DataType.UINT8
        node = source.producer()
    return False
