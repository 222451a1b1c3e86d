"""A small model that the tests of graph helpers share."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import set_metadata


def chain() -> onnx.ModelProto:
    """images → Conv → c → Relu → r → Add(one) → out, and a dead Sigmoid on c; stored in reverse order."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        helper.make_node("Conv", ["images", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Sigmoid", ["c"], ["dead"]),
        helper.make_node("Add", ["r", "one"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes[::-1],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    set_metadata(model, "k", "v")
    return model


def with_subgraph() -> onnx.ModelProto:
    """The chain, its output made by an If whose branches read r, which nothing else reads."""
    model = chain()
    then = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["r"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, None)]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "cond"))
    for node in list(model.graph.node):
        if node.op_type == "Add":
            model.graph.node.remove(node)
    model.graph.node.insert(0, helper.make_node("If", ["cond"], ["out"], then_branch=then, else_branch=other))
    return model


def operators(graph: ir.Graph) -> list[str]:
    """Return the operator types of a graph's nodes, in order."""
    return [node.op_type for node in graph]
