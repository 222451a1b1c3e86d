"""Questions to tensors and nodes of an onnx-ir graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.printable import shown

__all__ = [
    "Array",
    "Dims",
    "array_of",
    "attribute",
    "constant",
    "dims",
    "elem_type",
    "input_at",
    "known_dims",
    "name_of",
    "only_reader",
    "opset",
]

Array = npt.NDArray[Any]
Dims = tuple[int | None, ...]

_LISTS = (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS)


def array_of(tensor: ir.TensorProtocol, name: str | None) -> Array:
    """Return a tensor's numbers, read-only.

    Args:
        tensor: Any of onnx-ir's kinds.
        name: How messages call it.

    Raises:
        ModelFileError: Its data do not fit its type and shape.
    """
    kind = "unknown"
    try:
        kind = tensor.dtype.name
        array = np.asarray(tensor.numpy())
        if tuple(array.shape) != tuple(tensor.shape.numpy()):
            raise ValueError(f"{array.shape} numbers")
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as e:
        raise ModelFileError(
            f"tensor {shown(name or '')}: expected data for type {kind}, shape {list(tensor.shape)}, got others"
            f" ({' '.join(str(e).split())[:100]})"
        ) from None
    view: Array = array.view()
    view.flags.writeable = False
    return view


def constant(value: ir.Value | None) -> Array | None:
    """Return the numbers of an initializer or of a ``Constant`` node, read-only; None for anything else and for text.

    Raises:
        ModelFileError: Its data do not fit its type and shape.
    """
    tensor = _tensor(value)
    return None if value is None or tensor is None else array_of(tensor, value.name)


def dims(value: ir.Value | None) -> Dims | None:
    """Return a tensor's dimensions, None for each unknown one; None if nothing is known.

    Constants always have them; other tensors after `infer_shapes`, or as the file declares them.
    """
    if value is None:
        return None
    tensor = _tensor(value)
    if tensor is not None:
        return tuple(int(d) for d in tensor.shape.numpy())
    if value.shape is None or not isinstance(value.type, ir.TensorType):
        return None
    return tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape)


def known_dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return a tensor's dimensions if all of them are known; see `dims`."""
    found = dims(value)
    known = tuple(d for d in found or () if d is not None)
    return known if found is not None and len(known) == len(found) else None


def elem_type(value: ir.Value | None) -> ir.DataType | None:
    """Return a tensor's element type, None if unknown."""
    if value is None:
        return None
    tensor = _tensor(value)
    if tensor is not None:
        return tensor.dtype
    known = value.dtype if isinstance(value.type, ir.TensorType) else None
    return None if known == ir.DataType.UNDEFINED else known


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Return an attribute's value as a Python number, text, list, array or graph; `default` if absent."""
    item = node.attributes.get(name)
    if item is None or item.is_ref():
        return default
    if item.type == ir.AttributeType.TENSOR:
        return array_of(item.value, f"{node.op_type}.{name}")
    return list(item.value) if item.type in _LISTS else item.value


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Return what a node reads in one place; None where it has no such input or leaves it out."""
    return node.inputs[index] if index < len(node.inputs) else None


def name_of(value: ir.Value) -> str:
    """Return the name of a tensor that a file holds, where each has one."""
    assert value.name is not None, "a tensor of a file has a name"
    return value.name


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a tensor; None if several do or none, a subgraph does, or it is an output."""
    readers = value.consumers()
    if len(readers) != 1 or value.is_graph_output() or readers[0].graph is not value.graph:
        return None
    return readers[0]


def opset(graph: ir.Graph) -> int:
    """Return the version of the standard operator set that a graph uses."""
    imports = graph.opset_imports
    return imports.get("", imports.get("ai.onnx", 1))


def _tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor behind a value that is constant; None for others and for text."""
    if value is None:
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    for name, item in node.attributes.items():
        if name == "value":
            if item.type != ir.AttributeType.TENSOR:
                raise ModelFileError(f"Constant node {value.name}: expected a tensor, got {item.type.name}")
            tensor: ir.TensorProtocol = item.value  # as_tensor() measures each tensor that it returns
            return tensor
        if name in ("value_float", "value_floats"):
            return ir.Tensor(np.array(item.value, np.float32))
        if name in ("value_int", "value_ints"):
            return ir.Tensor(np.array(item.value, np.int64))
    return None
