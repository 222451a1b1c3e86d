"""The nodes and weight shapes of an ONNX file, read without the onnx package.

A device has no onnx package, and all that the profiler needs of a graph are node names, operation types and
the shapes of the weights. Field numbers are those of onnx.proto3; the wire format is protocol buffers'
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import ModelFileError

__all__ = ["GraphNode", "OnnxGraph", "read_graph"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE = 1, 2, 3, 4
_TENSOR_DIMS, _TENSOR_NAME = 1, 8


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node: its name, operation type, and the names of its inputs and outputs."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """The nodes of the top-level graph, and the shape of each initializer by name."""

    nodes: tuple[GraphNode, ...]
    weight_shapes: dict[str, tuple[int, ...]]


def read_graph(path: Path) -> OnnxGraph:
    """Read an ONNX file's top-level graph.

    Raises:
        ModelFileError: The file is not ONNX.
    """
    try:
        graph = next(value for field, value in _fields(memoryview(path.read_bytes())) if field == _MODEL_GRAPH)
        if isinstance(graph, int):
            raise ValueError("the graph is a number")
        nodes: list[GraphNode] = []
        shapes: dict[str, tuple[int, ...]] = {}
        for field, value in _fields(graph):
            if isinstance(value, int):
                continue
            if field == _GRAPH_NODE:
                nodes.append(_node(value))
            elif field == _GRAPH_INITIALIZER:
                name, shape = _tensor(value)
                shapes[name] = shape
    except (OSError, ValueError, IndexError, StopIteration) as e:
        raise ModelFileError(f"{path}: expected an ONNX file, got something else ({e})") from None
    return OnnxGraph(tuple(nodes), shapes)


def _node(data: memoryview) -> GraphNode:
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_NAME: [], _NODE_OP_TYPE: []}
    for field, value in _fields(data):
        if field in texts and not isinstance(value, int):
            texts[field].append(bytes(value).decode())
    name, op_type = "".join(texts[_NODE_NAME]), "".join(texts[_NODE_OP_TYPE])
    return GraphNode(name, op_type, tuple(texts[_NODE_INPUT]), tuple(texts[_NODE_OUTPUT]))


def _tensor(data: memoryview) -> tuple[str, tuple[int, ...]]:
    name, dims = "", []
    for field, value in _fields(data):
        if field == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif field == _TENSOR_NAME and not isinstance(value, int):
            name = bytes(value).decode()
    return name, tuple(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): a number, or the bytes of a string, message or packed list."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("a field ends after the file does")
        if kind == _BYTES:
            yield key >> 3, data[at : at + size]
        at += size


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        number, at = _varint(data, at)
        yield number


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
