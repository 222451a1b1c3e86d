"""SiLU as one node: the same numbers, and nothing else is taken for it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.values import dims
from edgedet_export.quantize.fuse_silu import SILU, FuseSilu
from edgedet_export.quantize.runner import onnx_runner

from .small_graphs import small_model
from .tiny_detector import pictures, tiny_detector


def fuse_silu(model: onnx.ModelProto) -> onnx.ModelProto:
    result = FuseSilu()(from_proto(model))
    return to_proto(result.model) if result.modified else model


def test_same_outputs_with_one_node_each() -> None:
    model, _ = tiny_detector()
    fused = fuse_silu(model)
    before, after = (Counter(n.op_type for n in m.graph.node) for m in (model, fused))
    assert (before["Sigmoid"], after["Sigmoid"], after[SILU]) == (6, 0, 6)
    tensor = pictures(1)[0][None, :64, :64]
    want, got = (onnx_runner(m, threads=1, optimize=False)(tensor) for m in (model, fused))
    for name, reference in want.items():
        np.testing.assert_allclose(got[name], reference, rtol=1e-5, atol=1e-5 * float(np.abs(reference).max()))


def test_gates_and_models_without_silu_stay() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["gate"]),
        helper.make_node("Mul", ["gate", "y"], ["out"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y", "out")]
    gate = helper.make_model(helper.make_graph(nodes, "gate", values[:2], values[2:]))
    assert fuse_silu(gate) is gate
    relu, _ = tiny_detector(activation="Relu")
    assert fuse_silu(relu) is relu


def test_a_sigmoid_that_is_an_output_or_read_twice_stays() -> None:
    def model(*outputs: str, extra: bool = False) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Sigmoid", ["x"], ["gate"], name="gate"),
            helper.make_node("Mul", ["x", "gate"], ["y"], name="y"),
            *([helper.make_node("Neg", ["gate"], ["z"], name="z")] if extra else []),
        ]
        values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", "gate", "y", "z")}
        graph = helper.make_graph(nodes, "g", [values["x"]], [values[n] for n in outputs])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    fused = fuse_silu(model("y"))
    assert [n.op_type for n in fused.graph.node] == [SILU]
    assert {e.domain: e.version for e in fused.opset_import} == {"": 13, "com.microsoft": 1}
    for kept in (model("y", "gate"), model("y", "z", extra=True)):
        assert fuse_silu(kept) is kept


def test_a_domain_is_declared_once() -> None:
    model, _ = tiny_detector()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    fused: onnx.ModelProto = fuse_silu(model)
    assert [e.domain for e in fused.opset_import].count("com.microsoft") == 1


def test_the_report_names_what_was_fused_and_gates_that_were_not() -> None:
    model = small_model(
        "(float[1,4] x, float[1,4] y) => (float[] a, float[] b, float[] c, float[] d)"
        "{ s = Sigmoid(x) a = Mul(x, s) t = Sigmoid(x) b = Mul(t, x) u = Sigmoid(x) c = Mul(u, y) d = Mul(x, y) }"
    )
    model.graph.opset_imports.pop("com.microsoft")
    result = FuseSilu()(model)
    what = "Sigmoid + Mul → QuickGelu"
    assert [(c.path, c.what) for c in result.report.changed] == [("a", what), ("b", what)]
    assert [d.path for d in result.report.declined] == ["c"]
    assert model.graph.opset_imports["com.microsoft"] == 1
    fused = [n for n in result.model.graph if n.op_type == SILU]
    assert [(n.attributes["alpha"].value, n.domain, n.outputs[0].name) for n in fused] == [
        (1.0, "com.microsoft", "a"),
        (1.0, "com.microsoft", "b"),
    ]
    assert [dims(n.outputs[0]) for n in fused] == [(1, 4)] * 2
    plain = small_model("(float[1,4] x, float[1,4] y) => (float[] d) { d = Mul(x, y) }")
    plain.graph.opset_imports.pop("com.microsoft")
    assert FuseSilu()(plain).report.declined == ()
    assert "com.microsoft" not in plain.graph.opset_imports
