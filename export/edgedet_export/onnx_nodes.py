"""Small questions to ONNX nodes and models: attributes, what a node reads, metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgedet_runtime.errors import ModelFileError

__all__ = ["attribute", "constant_node_value", "has_subgraph", "node_reads", "tensor_value"]

Array = npt.NDArray[Any]
_LIST_TYPES = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS)


def tensor_value(tensor: onnx.TensorProto) -> Array:
    """Return a tensor's value.

    Raises:
        ModelFileError: Its data do not fit its type and shape.
    """
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise ModelFileError(
            f"tensor {tensor.name}: expected data for type {tensor.data_type}, shape {list(tensor.dims)}, got others"
            f" ({' '.join(str(e).split())[:100]})"
        ) from None


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute's value as a Python number, text, list, array or graph; `default` if absent."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            if isinstance(value, onnx.TensorProto):
                return tensor_value(value)
            if isinstance(value, bytes):
                return value.decode()
            return list(value) if item.type in _LIST_TYPES else value
    return default


def node_reads(node: onnx.NodeProto) -> set[str]:
    """Return the tensors that a node reads, with those that its subgraphs (If, Loop) take from outside."""
    names = {name for name in node.input if name}
    for item in node.attribute:
        for graph in [item.g] if item.type == onnx.AttributeProto.GRAPH else item.graphs:
            made = {i.name for i in graph.input} | {t.name for t in graph.initializer}
            made |= {name for inner in graph.node for name in inner.output}
            read = {name for inner in graph.node for name in node_reads(inner)} | {o.name for o in graph.output}
            names |= read - made
    return names


def has_subgraph(node: onnx.NodeProto) -> bool:
    """Tell whether a node carries subgraphs (If, Loop, Scan)."""
    return any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)


def constant_node_value(node: onnx.NodeProto) -> Array | None:
    """Return the value of a ``Constant`` node; None for text."""
    for item in node.attribute:
        value = onnx.helper.get_attribute_value(item)
        if item.name == "value":
            if not isinstance(value, onnx.TensorProto):
                raise ModelFileError(f"Constant node {node.output[0]}: expected a tensor, got {type(value).__name__}")
            return tensor_value(value)
        if item.name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if item.name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    return None
