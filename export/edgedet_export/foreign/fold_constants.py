"""Evaluate what does not depend on the picture: shape arithmetic, grids, anchors, `Constant` nodes.

Exports with open dimensions compute reshapes, grids and even resize factors from ``Shape``. Once the input's size is
fixed, all that is constant, and the graph's real topology shows.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedet_export.foreign.session import open_session, run
from edgedet_export.graph.conversion import to_proto
from edgedet_export.graph.edits import remove_dead, remove_nodes, replace_by_constant, replace_uses
from edgedet_export.graph.extract import extract
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import Array, attribute, dims, elem_type
from edgedet_export.graph.walks import nodes_of, reads, subgraphs
from edgedet_export.onnx_passes import OnnxPass, PassRecord

__all__ = ["FoldConstants"]

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_MAX_ELEMENTS = 1 << 24
_MAX_ROUNDS = 32


class FoldConstants(OnnxPass):
    """Replace constant subgraphs by initializers and drop identities; shapes are inferred on the way."""

    name = "fold-constants"

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Fold in place until nothing is left to fold.

        Raises:
            ModelFileError: The graph contradicts itself.
        """
        declined: dict[str, str] = {}
        for _ in range(_MAX_ROUNDS):
            infer_shapes(model)
            _drop_identities(model.graph, record)
            if not _fold_shape_nodes(model.graph, record) + _evaluate_constants(model, record, declined):
                break
        _sweep(model.graph, record)
        for name, why in declined.items():
            record.decline(name, why)


def _drop_identities(graph: ir.Graph, record: PassRecord) -> None:
    for node in nodes_of(graph, "Identity", "Dropout", "Cast"):
        source, result = node.inputs[0], node.outputs[0]
        if source is None or (node.op_type == "Cast" and attribute(node, "to") != elem_type(source)):
            continue
        unread = all(not value.uses() and not value.is_graph_output() for value in node.outputs[1:])
        if result.is_graph_output() or not unread:
            continue
        replace_uses(result, source)
        remove_nodes(graph, [node])
        record.change(result, f"{node.op_type} → its input")


def _fold_shape_nodes(graph: ir.Graph, record: PassRecord) -> int:
    folded = 0
    for node in nodes_of(graph, "Shape"):
        known = dims(node.inputs[0])
        if known is None or None in known or node.outputs[0].is_graph_output():
            continue
        part = known[attribute(node, "start", 0) : attribute(node, "end", len(known))]
        _make_constant(graph, node, {node.outputs[0]: np.array(part, np.int64)}, record)
        folded += 1
    return folded


def _evaluate_constants(model: ir.Model, record: PassRecord, declined: dict[str, str]) -> int:
    """Run all nodes that depend on constants only, once, and keep what the rest of the graph reads of them."""
    graph = model.graph
    known = set(graph.initializers.values())
    ready: list[ir.Node] = []
    for node in graph:
        if node.op_type not in _RANDOM and known.issuperset(reads(node)):
            ready.append(node)
            known.update(node.outputs)
    inside = {*ready, *(inner for node in ready for sub in subgraphs(node) for inner in sub.all_nodes())}
    frontier = [
        value
        for node in ready
        for value in node.outputs
        if value.name and not value.is_graph_output() and not inside.issuperset(value.consumers())
    ]
    if not frontier:
        return 0
    values = run(open_session(to_proto(extract(model, {}, [value.name or "" for value in frontier]))), {})
    small: dict[ir.Value, Array] = {}
    for value, array in zip(frontier, values, strict=True):
        if isinstance(array, np.ndarray) and array.size <= _MAX_ELEMENTS:
            small[value] = array
        else:
            declined[value.name or ""] = f"its value is no tensor of at most {_MAX_ELEMENTS} numbers"
    whole = [
        node
        for node in ready
        if any(value in small for value in node.outputs)
        and all(value in small or not value.uses() for value in node.outputs)
    ]
    for node in whole:
        _make_constant(graph, node, {value: small[value] for value in node.outputs if value in small}, record)
    _sweep(graph, record)
    return len(whole)


def _make_constant(graph: ir.Graph, node: ir.Node, values: dict[ir.Value, Array], record: PassRecord) -> None:
    for value, array in values.items():
        replace_by_constant(graph, value, array)
    remove_nodes(graph, [node])
    record.change(node.outputs[0], f"{node.op_type} → constant")


def _sweep(graph: ir.Graph, record: PassRecord) -> None:
    for node in remove_dead(graph):
        record.change(node.outputs[0], f"{node.op_type} → nothing, as nobody reads it")
