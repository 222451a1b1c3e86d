"""OnnxGraph: an ONNX graph to edit; what is asked of it without a change is in `onnx_view`.

The graph owns detached copies of the nodes, so a node is a stable object: compare with ``is``. Every
edit goes through a method, which keeps the indices right; never assign to ``node.input`` or ``node.output``.

    graph = OnnxGraph(model)
    for node in graph.nodes_of("BatchNormalization"):
        ...
    graph.remove_dead()
    model = graph.to_model()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgedet_export.graph.conversion import set_metadata
from edgedet_export.onnx_nodes import attribute, node_reads
from edgedet_export.onnx_view import Array, GraphView, copy_message
from edgedet_runtime.errors import ModelFileError

__all__ = ["OnnxGraph", "attribute", "node_reads", "set_metadata"]


class OnnxGraph(GraphView):
    """An editable view of a model's main graph.

    Attributes:
        nodes: In topological order after construction, `sort` and `remove_dead`; read only.
        inputs: Graph inputs that are not initializers, by name; edit freely (shapes, types).
        outputs: Graph outputs by name, in order; edit freely.
    """

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
            tensor = copy_message(self._initializers.pop(old))
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
        self._value_info = {v.name: copy_message(v) for v in inferred.graph.value_info}
        self.outputs = {o.name: copy_message(o) for o in inferred.graph.output}

    def extract(self, inputs: Mapping[str, onnx.ValueInfoProto], outputs: Iterable[str]) -> onnx.ModelProto:
        """Return the part of the graph between some tensors as a model of its own; this graph stays as it is.

        Args:
            inputs: New graph inputs by tensor name; what makes them is left out.
            outputs: Tensors to give out, with the shapes known here.
        """
        part = OnnxGraph(self.to_model())
        part.remove_nodes([n for n in part.nodes if any(name in inputs for name in n.output)])
        part.inputs = {**{k: copy_message(v) for k, v in inputs.items()}, **part.inputs}
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


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
