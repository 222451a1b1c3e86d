"""Write SiLU as one node, for onnxruntime.

onnxruntime fuses x * sigmoid(x) into its QuickGelu (with alpha = 1) by itself, but not where the two nodes read 8-bit
numbers: then it converts them once for each, or computes both on bytes (a table, then a product). One pass over
floats between one conversion on either side is faster (measured on YOLOv5n, 640 px: 1.05 times) and needs no grid for
the sigmoid.
"""

from __future__ import annotations

import onnx
from onnx import helper

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.quantize.integer_islands import MICROSOFT

__all__ = ["SILU", "fuse_silu"]

SILU = "QuickGelu"


def fuse_silu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in which onnxruntime's own node computes each SiLU; the model itself where there is none.

    Args:
        model: FP32, with shapes; those of the tensors that stay are kept.
    """
    graph = OnnxGraph(model)
    found = False
    for sigmoid in graph.nodes_of("Sigmoid"):
        product = graph.only_consumer(sigmoid.output[0])
        if product is None or product.op_type != "Mul" or sigmoid.output[0] in graph.outputs:
            continue
        if sorted(product.input) != sorted((sigmoid.input[0], sigmoid.output[0])):
            continue
        output = str(product.output[0])
        node = helper.make_node(SILU, [sigmoid.input[0]], [output], name=output, domain=MICROSOFT, alpha=1.0)
        graph.replace_nodes([sigmoid, product], [node])
        found = True
    if not found:
        return model
    graph.remove_dead()
    fused = graph.to_model()
    if all(entry.domain != MICROSOFT for entry in fused.opset_import):
        fused.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return fused
