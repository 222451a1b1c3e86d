"""The nodes and weight shapes of an ONNX file, read without the onnx package.

A device has no onnx package, and all that the profiler needs of a graph are node names, operation types and the
shapes of the weights. Field numbers are those of onnx.proto; `edgedet_runtime.onnx_file` reads the wire format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.engines.model_source import ModelSource, content_of, label
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.onnx_file import fields, varint

__all__ = ["ListedNode", "OnnxListing", "read_listing"]

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE = 1, 2, 3, 4
_TENSOR_DIMS, _TENSOR_NAME = 1, 8


@dataclass(frozen=True, slots=True)
class ListedNode:
    """A node: its name, operation type, and the names of its inputs and outputs."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnnxListing:
    """The nodes of the top-level graph, and the shape of each initializer by name."""

    nodes: tuple[ListedNode, ...]
    weight_shapes: dict[str, tuple[int, ...]]


def read_listing(source: ModelSource) -> OnnxListing:
    """Read the top-level graph of an ONNX file, or of what was read of one.

    Raises:
        ModelFileError: The file is not ONNX.
    """
    nodes: list[ListedNode] = []
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        data = source.read_bytes() if isinstance(source, Path) else content_of(source) or b""
        start, end = next((s, e) for field, s, e in fields(data, 0, len(data)) if field == _MODEL_GRAPH)
        for field, s, e in fields(data, start, end):
            if field == _GRAPH_NODE:
                nodes.append(_node(data, s, e))
            elif field == _GRAPH_INITIALIZER:
                name, shape = _tensor(data, s, e)
                shapes[name] = shape
    except (OSError, ValueError, StopIteration) as error:
        raise ModelFileError(f"{label(source)}: expected an ONNX file, got something else ({error})") from None
    return OnnxListing(tuple(nodes), shapes)


def _node(data: bytes, start: int, end: int) -> ListedNode:
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_NAME: [], _NODE_OP_TYPE: []}
    for field, s, e in fields(data, start, end):
        if field in texts:
            texts[field].append(data[s:e].decode())
    name, op_type = "".join(texts[_NODE_NAME]), "".join(texts[_NODE_OP_TYPE])
    return ListedNode(name, op_type, tuple(texts[_NODE_INPUT]), tuple(texts[_NODE_OUTPUT]))


def _tensor(data: bytes, start: int, end: int) -> tuple[str, tuple[int, ...]]:
    """Return a tensor's name and dimensions, which writers store one by one or packed: numbers in a row either way."""
    name, dims = "", []
    for field, s, e in fields(data, start, end):
        if field == _TENSOR_DIMS:
            while s < e:
                number, s = varint(data, s, e)
                dims.append(number)
        elif field == _TENSOR_NAME:
            name = data[s:e].decode()
    return name, tuple(dims)
