"""Edits of an onnx-ir graph that keep it whole: free names for new tensors, no reader left behind."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from edgedet_export.graph.values import Array
from edgedet_export.graph.walks import subgraphs, walk_up
from edgedet_runtime.errors import ModelFileError

__all__ = [
    "NewTensors",
    "by_name",
    "free_names",
    "prepend",
    "remove_dead",
    "remove_nodes",
    "rename",
    "replace_by_constant",
    "replace_uses",
    "set_input",
    "set_outputs",
    "stand_in",
]


class NewTensors:
    """Makes tensors under names that a graph does not have yet; one serves for a whole pass.

    The names are gathered once, and numbers are counted per hint, so that n new tensors cost n steps.
    """

    def __init__(self, graph: ir.Graph) -> None:
        """Gather the names of a graph and its subgraphs."""
        self._graph = graph
        self._taken = set(ir.convenience.create_value_mapping(graph))
        self._taken |= {value.name for value in graph.outputs if value.name}
        self._next: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        """Return whether a name is taken."""
        return name in self._taken

    def name(self, hint: str) -> str:
        """Return `hint`, or `hint` with a number behind it, and take it."""
        name, number = hint, self._next.get(hint, 1)
        while name in self._taken:
            name, number = f"{hint}_{number}", number + 1
        self._next[hint] = number
        self._taken.add(name)
        return name

    def value(self, hint: str) -> ir.Value:
        """Return a new tensor, for a node to make."""
        return ir.Value(name=self.name(hint))

    def constant(self, hint: str, array: Array) -> ir.Value:
        """Add an initializer and return it."""
        return self.named_constant(self.name(hint), array)

    def named_constant(self, name: str, array: Array) -> ir.Value:
        """Add an initializer of exactly this name, or give the one of that name another value."""
        self._taken.add(name)
        existing = self._graph.initializers.get(name)
        tensor = _tensor(array, name)
        if existing is not None:
            existing.const_value = tensor
            existing.type, existing.shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
            return existing
        value = ir.val(name, const_value=tensor)
        self._graph.register_initializer(value)
        return value


def by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the tensors of a graph by name, those of subgraphs left out."""
    return ir.convenience.create_value_mapping(graph, include_subgraphs=False)


def rename(value: ir.Value, name: str) -> None:
    """Give a tensor another name, which must be free."""
    if value.const_value is not None:  # the tensor may be shared with another model
        value.const_value = ir.Tensor(value.const_value.numpy(), dtype=value.const_value.dtype, name=value.name)
    value.name = name


def free_names(graph: ir.Graph, names: Collection[str], new: NewTensors) -> None:
    """Rename the tensors, here and in subgraphs, that have one of these names: ``x`` becomes ``inner_x``."""
    values: list[ir.Value | None] = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        values += [*node.inputs, *node.outputs]
    for value in dict.fromkeys(values):
        if value is not None and value.name in names:
            rename(value, new.name(f"inner_{value.name}"))


def replace_uses(old: ir.Value, new: ir.Value, *, spare: Collection[ir.Node] = ()) -> None:
    """Let everything that reads `old` read `new`, except the nodes `spare`.

    Raises:
        ModelFileError: `old` is a graph output; nothing was changed.
    """
    if old.is_graph_output():
        raise ModelFileError(f"tensor {old.name}: expected inner uses only, got a graph output")
    for node, index in old.uses():
        if node not in spare:
            node.replace_input_with(index, new)


def stand_in(old: ir.Value, new: ir.Value) -> None:
    """Let `new` take the place of `old` everywhere, as an output of the graph too, under the name that `old` had."""
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
    rename(new, name or "")


def set_input(node: ir.Node, index: int, value: ir.Value) -> None:
    """Let a node read another tensor; an index behind its last input appends inputs that are left out."""
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def prepend(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Put nodes before all others."""
    first = next(iter(graph), None)
    if first is None:
        graph.extend(nodes)
    else:
        graph.insert_before(first, nodes)


def replace_by_constant(graph: ir.Graph, value: ir.Value, array: Array) -> None:
    """Put an initializer of the same name in the place of a tensor that a node makes; the node must go after."""
    name = value.name
    assert name is not None, "every tensor that somebody reads has a name"
    made = ir.val(name, const_value=_tensor(array, name))
    replace_uses(value, made)
    graph.register_initializer(made)


def remove_nodes(graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Remove nodes, and their readings with them; who reads their outputs must have been rewired before."""
    gone = list(dict.fromkeys(nodes))
    for node in gone:
        _detach(node)
    graph.remove(gone)


def set_outputs(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    """Make these tensors the graph's outputs, in this order."""
    graph.outputs.clear()
    graph.outputs.extend(values)


def remove_dead(graph: ir.Graph) -> list[ir.Node]:
    """Remove nodes and initializers that no output depends on; return the nodes, which have lost their inputs."""
    alive = set(walk_up(graph.outputs))
    dead = [node for node in graph if node not in alive]
    remove_nodes(graph, dead)
    for value in list(graph.initializers.values()):
        if value.name is not None and not value.uses() and not value.is_graph_output():
            del graph.initializers[value.name]
    return dead


def _detach(node: ir.Node) -> None:
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)
    for graph in subgraphs(node):
        for inner in graph:
            _detach(inner)


def _tensor(array: Array, name: str) -> ir.Tensor[Array]:
    return ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
