"""Behind which nodes channels may get factors of their own."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import constant, dims
from edgedet_export.quantize.smooth import InsertFactors, RemoveFactors, insert_factors

from .small_graphs import small_model

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


@pytest.mark.parametrize(
    "nodes",
    [
        "g = Sigmoid(x) t = Tanh(g) a = Mul(x, t) y = Neg(a)",
        "p = Softplus(x) t = Tanh(p) s = Sigmoid(t) a = Mul(x, s) y = Neg(a)",
        "n = Neg(x) g = Sigmoid(n) a = Mul(x, g) y = Neg(a)",
        "g = Sigmoid(x) a = Add(x, g) y = Neg(a)",
        "a = Mul(x, x) y = Neg(a)",
    ],
    ids=["two gates", "three gates", "gate of the negative", "sum", "square"],
)
def test_gates_of_one_or_two_steps(nodes: str) -> None:
    found = insert_factors(small_model(f"(float[1,4,8,8] x) => (float[] y) {{ {nodes} }}"))
    assert found == ({"a_smooth": "a"} if "g = Sigmoid(x) t = Tanh(g)" in nodes else {})


def test_factors_are_ones_and_the_report_says_where() -> None:
    model = small_model(
        "(float[1,4,8,8] x, float[8,4] flat, float[1,c,8,8] any) => (float[] y, float[] z, float[] u, float[] h)"
        "{ a = Elu(x) y = Neg(a) h = HardSwish(x) b = Elu(flat) z = Neg(b) d = Elu(any) u = Neg(d) }"
    )
    report = InsertFactors()(model).report
    assert [(c.path, c.what) for c in report.changed] == [("a_smooth", "Elu → Elu times a factor per channel")]
    assert [d.path for d in report.declined] == ["h", "b", "d"]
    factor = constant(by_name(model.graph)["a_factor"])
    assert factor is not None
    assert (factor.shape, set(factor.ravel()), factor.dtype.name) == ((1, 4, 1, 1), {1.0}, "float32")
    gone = RemoveFactors(["a_smooth"])(model).report
    assert [(c.path, c.what) for c in gone.changed] == [("a_smooth", "factors of 1 → nothing")]


def test_shapes_of_factors_are_inferred() -> None:
    model = small_model("(float[1,4,8,8] x) => (float[] y) { a = Elu(x) y = Neg(a) }")
    assert insert_factors(model) == {"a_smooth": "a"}
    assert dims(by_name(model.graph)["a_smooth"]) == (1, 4, 8, 8)
