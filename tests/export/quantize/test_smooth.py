"""Behind which nodes channels may get factors of their own."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.quantize.smooth import insert_factors, remove_factors

SHAPE = [1, 4, 8, 8]
Node = tuple[str, list[str], str]


def graph_of(*nodes: Node) -> OnnxGraph:
    """Return x, y → nodes → Relu → out."""
    made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
    made.append(helper.make_node("Relu", [nodes[-1][2]], ["out"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y", "out")]
    graph = OnnxGraph(
        helper.make_model(
            helper.make_graph(made, "g", values[:2], values[2:]), opset_imports=[helper.make_opsetid("", 18)]
        )
    )
    graph.infer_shapes()
    return graph


@pytest.mark.parametrize(
    "nodes",
    [
        [("Sigmoid", ["x"], "s"), ("Mul", ["x", "s"], "a")],
        [("HardSigmoid", ["x"], "s"), ("Mul", ["s", "x"], "a")],
        [("Softplus", ["x"], "p"), ("Tanh", ["p"], "t"), ("Mul", ["x", "t"], "a")],
        [("HardSwish", ["x"], "a")],
        [("Mish", ["x"], "a")],
    ],
    ids=["silu", "hard-swish", "mish", "HardSwish", "Mish"],
)
def test_activations_get_factors_that_go_again(nodes: list[Node]) -> None:
    graph = graph_of(*nodes)
    before = [n.op_type for n in graph.nodes]
    inserted = insert_factors(graph)
    assert list(inserted.values()) == ["a"]
    (new,) = inserted
    assert graph.shape(new) == tuple(SHAPE)
    assert [n.op_type for n in graph.consumers(new)] == ["Relu"]
    onnx.checker.check_model(graph.to_model(), full_check=True)
    remove_factors(graph, inserted)
    assert [n.op_type for n in graph.nodes] == before


@pytest.mark.parametrize(
    "nodes",
    [
        [("Sigmoid", ["y"], "s"), ("Mul", ["x", "s"], "a")],
        [("Mul", ["x", "y"], "a")],
        [("LeakyRelu", ["x"], "a")],
    ],
    ids=["gate of another tensor", "product", "homogeneous"],
)
def test_others_get_none(nodes: list[Node]) -> None:
    assert insert_factors(graph_of(*nodes)) == {}
