"""Places for factors of channels behind activations that are not homogeneous, see `equalize`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper

from edgedet_export.onnx_graph import OnnxGraph

__all__ = ["insert_factors", "remove_factors"]

_ACTIVATIONS = frozenset({"Celu", "Elu", "Gelu", "HardSwish", "Mish", "Selu", "Swish"})
_GATES = frozenset({"HardSigmoid", "Sigmoid", "Softplus", "Tanh"})
_LONGEST_GATE = 2  # Mish: x * Tanh(Softplus(x))


def insert_factors(graph: OnnxGraph) -> dict[str, str]:
    """Multiply what comes out of each such activation by ones, a (1, C, 1, 1) constant.

    Args:
        graph: With shapes; changed in place.

    Returns:
        The product's name → the activation's output.
    """
    inserted: dict[str, str] = {}
    for node in list(graph.nodes):
        old = str(node.output[0]) if len(node.output) == 1 else ""
        shape = graph.shape(old) if old and old not in graph.outputs else None
        if shape is None or len(shape) != 4 or not shape[1] or not _is_activation(graph, node):
            continue
        new = graph.unique_name(f"{old}_smooth")
        factor = graph.add_constant(f"{old}_factor", np.ones((1, shape[1], 1, 1), np.float32))
        graph.replace_uses(old, new)
        graph.add_nodes([helper.make_node("Mul", [old, factor], [new], name=new)])
        inserted[new] = old
    if inserted:
        graph.sort()
        graph.infer_shapes()
    return inserted


def remove_factors(graph: OnnxGraph, products: Iterable[str]) -> None:
    """Take out products of `insert_factors` whose factors are all 1."""
    for name in products:
        node = graph.producer(name)
        assert node is not None, "inserted before"
        graph.replace_uses(name, str(node.input[0]))
        graph.remove_nodes([node])
    graph.remove_dead()


def _is_activation(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    if node.op_type in _ACTIVATIONS:
        return True
    if node.op_type != "Mul" or len(node.input) != 2:
        return False
    return any(_gates(graph, gate, x) for x, gate in (node.input, reversed(node.input)))


def _gates(graph: OnnxGraph, gate: str, x: str) -> bool:
    """Return whether a tensor is a gate computed from `x` alone, element by element."""
    maker = graph.producer(gate)
    for _ in range(_LONGEST_GATE):
        if maker is None or maker.op_type not in _GATES:
            return False
        if maker.input[0] == x:
            return True
        maker = graph.producer(maker.input[0])
    return False
