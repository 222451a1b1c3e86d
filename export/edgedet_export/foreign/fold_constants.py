"""Evaluate what does not depend on the picture: shape arithmetic, grids, anchors, `Constant` nodes.

Exports with open dimensions compute reshapes, grids and even resize factors from ``Shape``. Once the input's size is
fixed, all that is constant, and the graph's real topology shows.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgedet_export.foreign.session import open_session, run
from edgedet_export.onnx_graph import OnnxGraph, attribute, node_reads

__all__ = ["fold_constants"]

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_MAX_ELEMENTS = 1 << 24
_MAX_ROUNDS = 32


def fold_constants(graph: OnnxGraph) -> int:
    """Replace constant subgraphs by initializers and drop identities, in place; infers shapes on the way.

    Returns:
        How many nodes went.

    Raises:
        ModelFileError: The graph contradicts itself.
    """
    before = len(graph.nodes)
    for _ in range(_MAX_ROUNDS):
        graph.infer_shapes()
        _drop_identities(graph)
        changed = _fold_shape_nodes(graph)
        changed += _evaluate_constants(graph)
        if not changed:
            break
    graph.remove_dead()
    return before - len(graph.nodes)


def _drop_identities(graph: OnnxGraph) -> None:
    for node in graph.nodes_of("Identity", "Dropout", "Cast"):
        if node.op_type == "Cast" and attribute(node, "to") != graph.elem_type(node.input[0]):
            continue
        readers = graph.consumers(node.output[0])
        unread = all(not graph.consumers(name) and name not in graph.outputs for name in node.output[1:])
        if node.output[0] in graph.outputs or not unread or any(node.output[0] not in n.input for n in readers):
            continue
        graph.replace_uses(node.output[0], node.input[0])
        graph.remove_nodes([node])


def _fold_shape_nodes(graph: OnnxGraph) -> int:
    folded = []
    for node in graph.nodes_of("Shape"):
        dims = graph.shape(node.input[0])
        if dims is None or None in dims or node.output[0] in graph.outputs:
            continue
        part = dims[attribute(node, "start", 0) : attribute(node, "end", len(dims))]
        folded.append((node, np.array(part, np.int64)))
    graph.remove_nodes(node for node, _ in folded)
    for node, value in folded:
        graph.set_constant(node.output[0], value)
    return len(folded)


def _evaluate_constants(graph: OnnxGraph) -> int:
    """Run all nodes that depend on constants only, once, and keep what the rest of the graph reads of them."""
    known = set(graph.initializer_names)
    ready: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if node.op_type not in _RANDOM and node_reads(node) <= known:
            ready.append(node)
            known.update(node.output)
    if not ready:
        return 0
    inside = {id(n) for n in ready}
    frontier = [
        name
        for node in ready
        for name in node.output
        if name in graph.outputs or any(id(reader) not in inside for reader in graph.consumers(name))
    ]
    frontier = [name for name in frontier if name not in graph.outputs]
    if not frontier:
        return 0
    values = run(open_session(graph.extract({}, frontier)), {})
    small = {name: value for name, value in zip(frontier, values, strict=True) if value.size <= _MAX_ELEMENTS}
    makers = [n for n in ready if any(name in small for name in n.output)]
    whole = [n for n in makers if all(name in small or not graph.consumers(name) for name in n.output)]
    graph.remove_nodes(whole)
    for node in whole:
        for name in node.output:
            if name in small:
                graph.set_constant(name, small[name])
    graph.remove_dead()
    return len(whole)
