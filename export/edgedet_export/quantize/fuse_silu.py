"""Write SiLU as one node, for onnxruntime.

onnxruntime fuses x * sigmoid(x) into its QuickGelu (with alpha = 1) by itself, but not where the two nodes read 8-bit
numbers: then it converts them once for each, or computes both on bytes (a table, then a product). One pass over
floats between one conversion on either side is faster (measured on YOLOv5n, 640 px: 1.05 times) and needs no grid for
the sigmoid.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter.pattern import Pattern

from edgedet_export.graph.edits import remove_nodes, stand_in
from edgedet_export.graph.walks import nodes_of
from edgedet_export.onnx_passes import OnnxPass, PassRecord
from edgedet_export.quantize.integer_islands import MICROSOFT

__all__ = ["SILU", "FuseSilu"]

SILU = "QuickGelu"


def _gate_last(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Sigmoid(x))


def _gate_first(op: Any, x: Any) -> Any:
    return op.Mul(op.Sigmoid(x), x)


class FuseSilu(OnnxPass):
    """Let onnxruntime's own node compute each x * sigmoid(x); shapes are kept."""

    name = "fuse-silu"

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Fuse in place, and declare the operator set that the nodes need."""
        graph = model.graph
        patterns = [Pattern(form) for form in (_gate_last, _gate_first)]
        for product in nodes_of(graph, "Mul"):
            made = product.outputs[0]
            found = next((m for p in patterns if (m := p.match(model, graph, product))), None)
            if found is None:
                if any(maker.op_type == "Sigmoid" for maker in product.predecessors()):
                    record.decline(made, "its gate is another tensor's sigmoid, or is read elsewhere")
                continue
            result = ir.Value(type=made.type, shape=made.shape)
            name = made.name
            node = ir.node(SILU, [found.bindings["x"]], {"alpha": 1.0}, domain=MICROSOFT, outputs=[result], name=name)
            graph.insert_before(product, node)
            stand_in(made, result)
            remove_nodes(graph, found.nodes)
            record.change(result, f"Sigmoid + Mul → {SILU}")
        if record.changed:
            graph.opset_imports.setdefault(MICROSOFT, 1)
