"""Behind which nodes channels may get factors of their own."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import dims
from edgedet_export.quantize.smooth import RemoveFactors, insert_factors

SHAPE = [1, 4, 8, 8]
Node = tuple[str, list[str], str]


def model_of(*nodes: Node) -> ir.Model:
    """Return x, y → nodes → Relu → out."""
    made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
    made.append(helper.make_node("Relu", [nodes[-1][2]], ["out"]))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y", "out")]
    model = from_proto(
        helper.make_model(
            helper.make_graph(made, "g", values[:2], values[2:]), opset_imports=[helper.make_opsetid("", 18)]
        )
    )
    infer_shapes(model)
    return model


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
    model = model_of(*nodes)
    before = [n.op_type for n in model.graph]
    inserted = insert_factors(model)
    assert list(inserted.values()) == ["a"]
    (new,) = inserted
    product = by_name(model.graph)[new]
    assert dims(product) == tuple(SHAPE)
    assert [n.op_type for n in product.consumers()] == ["Relu"]
    onnx.checker.check_model(to_proto(model), full_check=True)
    RemoveFactors(inserted)(model)
    assert [n.op_type for n in model.graph] == before
    assert not model.graph.initializers


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
    assert insert_factors(model_of(*nodes)) == {}
