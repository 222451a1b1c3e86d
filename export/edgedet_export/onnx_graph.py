"""OnnxGraph: an editable view of an ONNX graph that knows who makes and who reads each tensor.

The view owns detached copies of the nodes, so a node is a stable object: compare with ``is``. Every
edit goes through a method, which keeps the indices right; never assign to ``node.input`` or ``node.output``.

    graph = OnnxGraph(model)
    for node in graph.nodes_of("BatchNormalization"):
        ...
    graph.remove_dead()
    model = graph.to_model()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgedet_export.onnx_nodes import (
    attribute,
    constant_node_value,
    has_subgraph,
    node_reads,
    set_metadata,
    tensor_value,
)
from edgedet_runtime.errors import ModelFileError

__all__ = ["OnnxGraph", "attribute", "node_reads", "set_metadata"]

Array = npt.NDArray[Any]
Dims = tuple[int | None, ...]


class OnnxGraph:
    """An editable view of a model's main graph.

    Attributes:
        nodes: In topological order after construction, `sort` and `remove_dead`; read only.
        inputs: Graph inputs that are not initializers, by name; edit freely (shapes, types).
        outputs: Graph outputs by name, in order; edit freely.
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
        self.nodes: list[onnx.NodeProto] = [_copy(n) for n in model.graph.node]
        self.inputs: dict[str, onnx.ValueInfoProto] = {
            i.name: _copy(i) for i in model.graph.input if i.name not in self._initializers
        }
        self.outputs: dict[str, onnx.ValueInfoProto] = {o.name: _copy(o) for o in model.graph.output}
        self._value_info: dict[str, onnx.ValueInfoProto] = {v.name: _copy(v) for v in model.graph.value_info}
        self._producers: dict[str, onnx.NodeProto] | None = None
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        self.sort()

    @classmethod
    def load(cls, path: str | Path) -> OnnxGraph:
        """Read an ONNX file, with external data that lies beside it.

        Raises:
            ModelFileError: The file is missing, truncated, or not ONNX.
        """
        try:
            model = onnx.load(str(path))
        except FileNotFoundError as e:
            raise ModelFileError(f"{path}: no such file, or its external data is missing ({_line(e)})") from None
        except Exception as e:  # protobuf and onnx raise many unrelated types for a damaged file
            raise ModelFileError(f"{path}: expected an ONNX model, got something unreadable ({_line(e)})") from None
        if not model.graph.node or not model.graph.output:
            raise ModelFileError(f"{path}: expected an ONNX model with nodes and outputs, got an empty or cut-off one")
        return cls(model)

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

    # ---- reading ----

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

    # ---- editing ----

    def unique_name(self, hint: str) -> str:
        """Return `hint`, or `hint` with a number behind it, such that no tensor of the graph has the name."""
        taken = set(self._initializers) | set(self.inputs) | set(self.outputs)
        taken |= {name for node in self.nodes for name in (*node.input, *node.output)}
        name, number = hint, 1
        while name in taken:
            name, number = f"{hint}_{number}", number + 1
        return name

    def set_constant(self, name: str, value: Array) -> None:
        """Add an initializer, or replace the one of that name."""
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        self._arrays.pop(name, None)

    def add_constant(self, hint: str, value: Array) -> str:
        """Add an initializer under a new name, which is returned."""
        name = self.unique_name(hint)
        self.set_constant(name, value)
        return name

    def forget_shapes(self) -> None:
        """Drop what is known of inner tensors, after an edit that changed it; `infer_shapes` finds it anew."""
        self._value_info = {}
        self._arrays.clear()

    def add_nodes(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Add nodes and bring the graph into topological order; the objects given become the graph's."""
        self.nodes.extend(nodes)
        self._producers = None
        self.sort()

    def remove_nodes(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Remove nodes; who reads their outputs must be rewired by the caller."""
        gone = {id(n) for n in nodes}
        self.nodes = [n for n in self.nodes if id(n) not in gone]
        self._producers = None

    def replace_nodes(self, old: Iterable[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put `new` in the place of `old`; the new nodes may make tensors of the same names."""
        self.remove_nodes(old)
        self.add_nodes(new)

    def set_input(self, node: onnx.NodeProto, index: int, tensor: str) -> None:
        """Let a node read another tensor; an index behind its last input appends empty ones."""
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = tensor
        self._producers = None

    def wrap_input(self, name: str, make_node: Callable[[str], onnx.NodeProto]) -> None:
        """Put a node between a graph input and its readers.

        Args:
            name: The input.
            make_node: Gets the name that the node's output must have; the node reads the input.
        """
        inner = self.unique_name(f"{name}_inner")
        self.replace_uses(name, inner)
        self.add_nodes([make_node(inner)])

    def replace_uses(self, old: str, new: str, *, but: Sequence[onnx.NodeProto] = ()) -> None:
        """Let everything that reads `old` read `new`, except the nodes `but`.

        Raises:
            ModelFileError: `old` is a graph output or is read inside a subgraph; nothing was changed.
        """
        spared = {id(n) for n in but}
        readers = [n for n in self.consumers(old) if id(n) not in spared]
        if old in self.outputs or any(old not in n.input for n in readers):
            raise ModelFileError(f"tensor {old}: expected inner uses only, got a graph output or a subgraph's use")
        for node in readers:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new
        self._producers = None

    def rename(self, old: str, new: str) -> None:
        """Rename a tensor everywhere in the main graph: input, output, initializer or inner tensor.

        Raises:
            ModelFileError: `new` is taken, or a subgraph reads `old`.
        """
        if old == new:
            return
        if self.unique_name(new) != new:
            raise ModelFileError(f"tensor {new}: expected a free name, but the graph already has it")
        if any(old not in n.input for n in self.consumers(old)):
            raise ModelFileError(f"tensor {old}: expected no use inside a subgraph")
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new
        for table in (self.inputs, self.outputs):
            if old in table:
                renamed = {new if k == old else k: v for k, v in table.items()}
                renamed[new].name = new
                table.clear()
                table.update(renamed)
        if old in self._value_info:
            info = self._value_info.pop(old)
            info.name = new
            self._value_info[new] = info
        if old in self._initializers:
            tensor = _copy(self._initializers.pop(old))
            tensor.name = new
            self._initializers[new] = tensor
        self._arrays.pop(old, None)
        self._producers = None

    def set_outputs(self, outputs: Mapping[str, Sequence[int | None] | None], elem_type: int = 1) -> None:
        """Make these tensors, with these shapes, the graph's outputs (float32 unless said otherwise)."""
        self.outputs = {
            name: onnx.helper.make_tensor_value_info(name, elem_type, None if dims is None else list(dims))
            for name, dims in outputs.items()
        }

    def remove_dead(self) -> int:
        """Remove nodes and initializers that no output depends on; return how many nodes went."""
        alive = {id(n) for n in self.walk_up(self.outputs)}
        dead = [n for n in self.nodes if id(n) not in alive]
        self.remove_nodes(dead)
        used = {name for node in self.nodes for name in node_reads(node)} | set(self.outputs)
        self._initializers = {name: t for name, t in self._initializers.items() if name in used}
        self._arrays.clear()
        made = {name for node in self.nodes for name in node.output}
        self._value_info = {name: v for name, v in self._value_info.items() if name in made}
        return len(dead)

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

    def infer_shapes(self) -> None:
        """Compute the shapes that ONNX's inference finds; inner shapes that the file declares are dropped.

        Raises:
            ModelFileError: The graph contradicts itself.
        """
        self._value_info = {}
        for name, output in self.outputs.items():
            elem_type = output.type.tensor_type.elem_type
            self.outputs[name] = onnx.helper.make_tensor_value_info(name, elem_type, None)
        try:
            inferred = onnx.shape_inference.infer_shapes(self.to_model(), strict_mode=False, data_prop=True)
        except Exception as e:  # onnx.shape_inference.InferenceError, or RuntimeError from the C++ side
            raise ModelFileError(f"ONNX graph: shape inference failed ({_line(e)})") from None
        self._value_info = {v.name: _copy(v) for v in inferred.graph.value_info}
        self.outputs = {o.name: _copy(o) for o in inferred.graph.output}

    def extract(self, inputs: Mapping[str, onnx.ValueInfoProto], outputs: Iterable[str]) -> onnx.ModelProto:
        """Return the part of the graph between some tensors as a model of its own; this graph stays as it is.

        Args:
            inputs: New graph inputs by tensor name; what makes them is left out.
            outputs: Tensors to give out, with the shapes known here.
        """
        part = OnnxGraph(self.to_model())
        part.remove_nodes([n for n in part.nodes if any(name in inputs for name in n.output)])
        part.inputs = {**{k: _copy(v) for k, v in inputs.items()}, **part.inputs}
        dims = {name: self.shape(name) for name in outputs}
        types = {name: self.elem_type(name) for name in outputs}
        part.outputs = {
            n: onnx.helper.make_tensor_value_info(n, types[n] or 1, None if d is None else list(d))
            for n, d in dims.items()
        }
        part.remove_dead()
        read = {name for node in part.nodes for name in node_reads(node)} | set(part.outputs)
        part.inputs = {name: v for name, v in part.inputs.items() if name in inputs or name in read}
        return part.to_model()

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


def _copy(message: Any) -> Any:
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


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
