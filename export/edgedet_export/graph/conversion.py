"""ONNX files and protobuf models to onnx-ir models, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from edgedet_export.graph.values import array_of
from edgedet_export.graph.walks import reads
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.mistaken import mistaken_file
from edgedet_runtime.model_check.onnx_reader import check_onnx
from edgedet_runtime.printable import shown

__all__ = ["from_proto", "load_model", "set_metadata", "to_proto"]

_INITIALIZERS_NEED_NO_INPUT = 4  # since this IR version


def load_model(path: str | Path) -> ir.Model:
    """Read an ONNX file, with external data that lies beside it; the file is checked before, see `model_check`.

    Raises:
        ModelFileError: The file is missing, truncated, not ONNX, or may not reach an engine.
    """
    check_onnx(Path(path))
    try:
        proto = onnx.load(str(path))
    except FileNotFoundError as e:
        raise ModelFileError(f"{path}: no such file, or its external data is missing ({_line(e)})") from None
    except Exception as e:  # protobuf and onnx raise many unrelated types for a damaged file
        got = mistaken_file(Path(path)) or f"something unreadable ({_line(e)})"
        raise ModelFileError(f"{path}: expected an ONNX model, got {got}") from None
    if not proto.graph.node or not proto.graph.output:
        got = mistaken_file(Path(path)) or "an empty or cut-off one"
        raise ModelFileError(f"{path}: expected an ONNX model with nodes and outputs, got {got}")
    return from_proto(proto)


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Return a model as onnx-ir; edits of it never reach `proto`, whose weights are shared.

    Its nodes are in topological order. Inputs that only declare an initializer are dropped.

    Raises:
        ModelFileError: The graph has a cycle, a tensor has two makers or none, a name is no text, or a weight's data
            do not fit its shape.
    """
    _check_scope(proto.graph, [])
    try:
        model = ir.from_proto(proto)
    except Exception as e:  # onnx-ir wraps whatever it meets in a damaged model
        raise ModelFileError(f"ONNX graph: expected a valid one, got a damaged one ({_line(_root(e))})") from None
    graph = model.graph
    for node in graph.all_nodes():
        _check_attributes(node)
        _drop_bare_shapes(node.outputs)
    _drop_bare_shapes(graph.inputs)
    for value in graph.initializers.values():
        if value.const_value is not None:
            array = array_of(value.const_value, value.name)
            value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(array.shape)
    overridable = [value for value in graph.inputs if value.is_initializer()]
    for value in overridable:
        graph.inputs.remove(value)
    if model.ir_version is not None:
        model.ir_version = max(model.ir_version, _INITIALIZERS_NEED_NO_INPUT)
    _sort(graph)
    return model


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Return a model as protobuf, on its own; shapes are stored for inner tensors, not for weights, which have one.

    Raises:
        ModelFileError: The model holds what protobuf cannot; it comes from a damaged file.
    """
    try:
        proto = ir.to_proto(model)
    except ir.serde.SerdeError as e:
        raise ModelFileError(
            f"ONNX graph: expected what a file can hold, got a damaged one ({_line(_root(e))})"
        ) from None
    weights = set(model.graph.initializers)
    inner = [info for info in proto.graph.value_info if info.name not in weights]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(inner)
    return proto


def set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    """Set one entry of a model's ``metadata_props``, replacing an entry of the same key."""
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    model.metadata_props.add(key=key, value=value)


def _sort(graph: ir.Graph) -> None:
    """Bring nodes into topological order where they are not."""
    seen: set[ir.Node] = set()
    for node in graph:
        makers = (value.producer() for value in reads(node))
        if any(maker is not None and maker.graph is graph and maker not in seen for maker in makers):
            break
        seen.add(node)
    else:
        return
    try:
        graph.sort()
    except ValueError:
        raise ModelFileError("ONNX graph: expected no cycle, got one; the file is damaged") from None


def _drop_bare_shapes(values: Iterable[ir.Value]) -> None:
    """Forget shapes without an element type, which no file can hold."""
    for value in values:
        if value.type is None:
            value.shape = None


def _check_attributes(node: ir.Node) -> None:
    for name, item in node.attributes.items():
        if item.type == ir.AttributeType.UNDEFINED:
            raise ModelFileError(
                f"attribute {shown(name)} of {shown(node.op_type)}: expected a value, got none; the file is damaged"
            )
        if item.type == ir.AttributeType.TENSOR:
            array_of(item.value, node.outputs[0].name if node.outputs else name)


def _check_scope(graph: onnx.GraphProto, outer: list[set[str]]) -> None:
    """Refuse what onnx-ir would repair or only warn of, in a graph and the subgraphs of its nodes."""
    bad = next((name for name in _names(graph) if not isinstance(name, str)), None)
    if bad is not None:
        raise ModelFileError(f"ONNX graph: expected names in UTF-8, got {bad[:40]!r}; the file is damaged")
    if graph.sparse_initializer:
        raise ModelFileError("ONNX graph: expected dense weights, got sparse ones; export without sparsity")
    made = {item.name for items in (graph.input, graph.initializer) for item in items}
    for node in graph.node:
        if not node.output:
            raise ModelFileError(f"ONNX graph: expected nodes that make something, got {shown(node.op_type)} without")
        for name in node.output:
            if name and name in made:
                raise ModelFileError(f"tensor {shown(name)}: expected one producer, got two")
            made.add(name)
    scopes = [*outer, made]
    for node in graph.node:
        unknown = next((name for name in node.input if name and not any(name in scope for scope in scopes)), None)
        if unknown is not None:
            raise ModelFileError(f"tensor {shown(unknown)}, read by {shown(node.op_type)}: expected a maker, got none")
        for item in node.attribute:
            for inner in [item.g] if item.type == onnx.AttributeProto.GRAPH else item.graphs:
                _check_scope(inner, scopes)
    unmade = next((o.name for o in graph.output if not any(o.name in scope for scope in scopes)), None)
    if unmade is not None:
        raise ModelFileError(f"output {shown(unmade)}: expected a node that makes it, got none")


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from (node.op_type, node.domain, *node.input, *node.output)
    for items in (graph.input, graph.output, graph.initializer):
        yield from (item.name for item in items)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
