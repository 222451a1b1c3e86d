"""Places for factors of channels behind activations that are not homogeneous, see `equalize`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors, by_name, remove_dead, remove_nodes, replace_uses
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import dims, input_at, name_of
from edgedet_export.onnx_passes import OnnxPass, PassRecord

__all__ = ["InsertFactors", "RemoveFactors", "insert_factors"]

_ACTIVATIONS = frozenset({"Celu", "Elu", "Gelu", "HardSwish", "Mish", "Selu", "Swish"})
_GATES = frozenset({"HardSigmoid", "Sigmoid", "Softplus", "Tanh"})
_LONGEST_GATE = 2  # Mish: x * Tanh(Softplus(x))


def insert_factors(model: ir.Model) -> dict[str, str]:
    """Run `InsertFactors` and return each product's name → the activation's output."""
    report = InsertFactors()(model).report
    values = by_name(model.graph)
    makers = {change.path: values[change.path].producer() for change in report.changed}
    sources = {name: input_at(node, 0) for name, node in makers.items() if node is not None}
    return {name: name_of(source) for name, source in sources.items() if source is not None}


class InsertFactors(OnnxPass):
    """Multiply what comes out of each activation that is not homogeneous by ones, a (1, C, 1, 1) constant.

    The model needs shapes. Each change is at the product.
    """

    name = "insert-factors"

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Insert in place, and infer shapes anew."""
        graph = model.graph
        new = NewTensors(graph)
        for node in list(graph):
            if not _is_activation(node):
                continue
            old = node.outputs[0]
            shape = dims(old)
            channels = shape[1] if shape is not None and len(shape) == 4 else None
            if old.is_graph_output() or channels is None:
                record.decline(old, "it is an output of the graph, or its channels are not known")
                continue
            product = new.value(f"{old.name}_smooth")
            factor = new.constant(f"{old.name}_factor", np.ones((1, channels, 1, 1), np.float32))
            replace_uses(old, product)
            graph.insert_after(node, ir.node("Mul", [old, factor], outputs=[product], name=product.name))
            record.change(product, f"{node.op_type} → {node.op_type} times a factor per channel")
        if record.changed:
            infer_shapes(model)


class RemoveFactors(OnnxPass):
    """Take out products of `InsertFactors` whose factors are all 1."""

    name = "remove-factors"

    def __init__(self, products: Collection[str]) -> None:
        """Take the products' names."""
        self._products = products

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Remove in place."""
        values = by_name(model.graph)
        for name in self._products:
            node = values[name].producer()
            assert node is not None, "inserted before"
            source = node.inputs[0]
            assert source is not None, "a product has two factors"
            replace_uses(values[name], source)
            remove_nodes(model.graph, [node])
            record.change(name, "factors of 1 → nothing")
        remove_dead(model.graph)


def _is_activation(node: ir.Node) -> bool:
    if node.op_type in _ACTIVATIONS:
        return True
    if node.op_type != "Mul":
        return False
    pairs: Sequence[Sequence[ir.Value | None]] = (node.inputs, node.inputs[::-1])
    return any(_gates(gate, x) for x, gate in pairs)


def _gates(gate: ir.Value | None, x: ir.Value | None) -> bool:
    """Return whether a tensor is a gate computed from `x` alone, element by element."""
    for _ in range(_LONGEST_GATE):
        maker = None if gate is None else gate.producer()
        if maker is None or maker.op_type not in _GATES:
            return False
        gate = maker.inputs[0]
        if gate is x:
            return True
    return False
