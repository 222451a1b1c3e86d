"""GraphView: what an ONNX graph holds: its nodes, who makes and who reads each tensor, values and shapes.

It owns detached copies of the nodes, so a node is a stable object: compare with ``is``. What edits it is `OnnxGraph`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.onnx_nodes import constant_node_value, has_subgraph, node_reads, tensor_value
from edgedet_runtime.errors import ModelFileError

__all__ = ["Array", "GraphView", "copy_message"]

Array = npt.NDArray[Any]
Dims = tuple[int | None, ...]


class GraphView:
    """A model's main graph, to be read.

    Attributes:
        nodes: In topological order after construction and `sort`.
        inputs: Graph inputs that are not initializers, by name.
        outputs: Graph outputs by name, in order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copy a model; the model itself is never changed.

        Raises:
            ModelFileError: The graph has a cycle, two nodes make the same tensor, or a name is no text.
        """
        _check_names(model.graph)
        self._shell = onnx.ModelProto()
        self._shell.CopyFrom(_without_graph(model))
        self._graph_name = model.graph.name or "graph"
        self._initializers: dict[str, onnx.TensorProto] = {t.name: t for t in model.graph.initializer}
        self._arrays: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = [copy_message(n) for n in model.graph.node]
        self.inputs: dict[str, onnx.ValueInfoProto] = {
            i.name: copy_message(i) for i in model.graph.input if i.name not in self._initializers
        }
        self.outputs: dict[str, onnx.ValueInfoProto] = {o.name: copy_message(o) for o in model.graph.output}
        self._value_info: dict[str, onnx.ValueInfoProto] = {v.name: copy_message(v) for v in model.graph.value_info}
        self._producers: dict[str, onnx.NodeProto] | None = None
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        self.sort()

    def to_model(self) -> onnx.ModelProto:
        """Build a new model from the view's state; initializers that nothing reads are left out."""
        used = {name for node in self.nodes for name in node_reads(node)} | set(self.outputs)
        graph = onnx.helper.make_graph(
            [],
            self._graph_name,
            list(self.inputs.values()),
            list(self.outputs.values()),
            [t for name, t in self._initializers.items() if name in used],
        )
        graph.node.extend(self.nodes)
        made = {name for node in self.nodes for name in node.output}
        shown = made - set(self.outputs)
        graph.value_info.extend(v for name, v in self._value_info.items() if name in shown)
        model = onnx.ModelProto()
        model.CopyFrom(self._shell)
        model.graph.CopyFrom(graph)
        return model

    @property
    def opset(self) -> int:
        """Version of the standard operator set that the model uses."""
        return next((o.version for o in self._shell.opset_import if o.domain in ("", "ai.onnx")), 1)

    @property
    def metadata(self) -> dict[str, str]:
        """A copy of the model's ``metadata_props``."""
        return {entry.key: entry.value for entry in self._shell.metadata_props}

    @property
    def initializer_names(self) -> tuple[str, ...]:
        """Names of all initializers."""
        return tuple(self._initializers)

    def nodes_of(self, *op_types: str) -> list[onnx.NodeProto]:
        """Return the nodes of some operator types, in graph order, as a new list; the graph may be edited."""
        return [n for n in self.nodes if n.op_type in op_types]

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor; None for graph inputs and initializers."""
        return self._index()[0].get(tensor)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor (each once); being a graph output does not count."""
        return list(self._index()[1].get(tensor, ()))

    def only_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor; None if there are several or none, or it is an output."""
        readers = self._index()[1].get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def constant(self, tensor: str) -> Array | None:
        """Return the value of an initializer or of a ``Constant`` node; None for anything else.

        The array is shared between calls and read-only.
        """
        if tensor in self._arrays:
            return self._arrays[tensor]
        if tensor in self._initializers:
            value = tensor_value(self._initializers[tensor])
        else:
            node = self.producer(tensor)
            if node is None or node.op_type != "Constant":
                return None
            got = constant_node_value(node)
            if got is None:
                return None
            value = got
        value = np.array(value)
        value.flags.writeable = False
        self._arrays[tensor] = value
        return value

    def shape(self, tensor: str) -> Dims | None:
        """Return a tensor's dimensions, None for each unknown one; None if nothing is known.

        Constants always have one; other tensors after `infer_shapes`, or as the file declares them.
        """
        array = self.constant(tensor)
        if array is not None:
            return tuple(array.shape)
        info = self.inputs.get(tensor) or self.outputs.get(tensor) or self._value_info.get(tensor)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return None
        return tuple(
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
            for d in info.type.tensor_type.shape.dim
        )

    def elem_type(self, tensor: str) -> int | None:
        """Return a tensor's ``onnx.TensorProto`` data type, None if unknown."""
        if tensor in self._initializers:
            return int(self._initializers[tensor].data_type)
        array = self.constant(tensor)
        if array is not None:
            return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
        info = self.inputs.get(tensor) or self.outputs.get(tensor) or self._value_info.get(tensor)
        return int(info.type.tensor_type.elem_type) or None if info is not None else None

    def walk_up(
        self, tensors: Iterable[str], *, stop: Callable[[onnx.NodeProto], bool] | None = None
    ) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that tensors depend on, nearest first, each once.

        Args:
            tensors: Where to start.
            stop: A node for which this is true is yielded, and not walked through.
        """
        seen: set[int] = set()
        queue = list(tensors)
        while queue:
            node = self.producer(queue.pop(0))
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if stop is None or not stop(node):
                queue.extend(sorted(node_reads(node)) if has_subgraph(node) else [n for n in node.input if n])

    def walk_down(
        self, tensors: Iterable[str], *, stop: Callable[[onnx.NodeProto], bool] | None = None
    ) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that depend on tensors, nearest first, each once; `stop` as in `walk_up`."""
        seen: set[int] = set()
        queue = list(tensors)
        while queue:
            for node in self.consumers(queue.pop(0)):
                if id(node) in seen:
                    continue
                seen.add(id(node))
                yield node
                if stop is None or not stop(node):
                    queue.extend(node.output)

    def sort(self) -> None:
        """Bring the nodes into topological order, otherwise keeping the order that they have.

        Raises:
            ModelFileError: The graph has a cycle, or two nodes make the same tensor.
        """
        producers = self._index()[0]
        state: dict[int, int] = {}  # 1: being visited, 2: placed
        order: list[onnx.NodeProto] = []
        for root in self.nodes:
            stack = [(root, False)]
            while stack:
                node, ready = stack.pop()
                if ready:
                    state[id(node)] = 2
                    order.append(node)
                    continue
                if state.get(id(node)) == 2:
                    continue
                if state.get(id(node)) == 1:
                    raise ModelFileError(f"ONNX graph: expected no cycle, got one through {node.op_type}")
                state[id(node)] = 1
                stack.append((node, True))
                before = [producers[name] for name in sorted(node_reads(node)) if name in producers]
                if any(state.get(id(b)) == 1 for b in before):
                    raise ModelFileError(f"ONNX graph: expected no cycle, got one through {node.op_type}")
                stack.extend((b, False) for b in reversed(before) if state.get(id(b)) != 2)
        self.nodes = order

    def _index(self) -> tuple[dict[str, onnx.NodeProto], dict[str, list[onnx.NodeProto]]]:
        if self._producers is None:
            producers: dict[str, onnx.NodeProto] = {}
            consumers: dict[str, list[onnx.NodeProto]] = {}
            for node in self.nodes:
                for name in node.output:
                    if name and name in producers:
                        raise ModelFileError(f"tensor {name}: expected one producer, got two")
                    producers[name] = node
                for name in sorted(node_reads(node)):
                    consumers.setdefault(name, []).append(node)
            producers.pop("", None)
            self._producers, self._consumers = producers, consumers
        return self._producers, self._consumers


def _check_names(graph: onnx.GraphProto) -> None:
    """Refuse names that are no UTF-8; protobuf hands them out as bytes."""
    names = [name for node in graph.node for name in (node.op_type, node.domain, *node.input, *node.output)]
    names += [item.name for items in (graph.input, graph.output, graph.initializer) for item in items]
    bad = next((name for name in names if not isinstance(name, str)), None)
    if bad is not None:
        raise ModelFileError(f"ONNX graph: expected names in UTF-8, got {bad[:40]!r}; the file is damaged")


def copy_message(message: Any) -> Any:
    """Return a copy of a protobuf message that stands on its own."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _without_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    shell = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        target = getattr(shell, field.name)
        if hasattr(target, "extend"):
            target.extend(value)
        else:
            setattr(shell, field.name, value)
    return shell
