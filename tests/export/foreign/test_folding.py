"""Folding in foreign graphs: node counts and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.foreign.fold_constants import FoldConstants
from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions, folded_operators
from edgedet_export.foreign.half import ToFloat32
from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.values import dims

RNG = np.random.default_rng(0)
Arrays = dict[str, np.ndarray[Any, Any]]


def build(nodes: list[onnx.NodeProto], constants: Arrays, channels: int = 4) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 5, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return from_proto(model)


def outputs(model: ir.Model) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal([d or 1 for d in dims(model.graph.inputs[0]) or ()], np.float32)
    result: np.ndarray[Any, Any] = session.run(None, {"x": x})[0]
    return result


def fold_affine(model: ir.Model) -> dict[str, int]:
    return dict(folded_operators(FoldIntoConvolutions()(model).report))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, np.float32)


def batch_norm(channels: int) -> Arrays:
    return {
        "gamma": f32(channels),
        "beta": f32(channels),
        "mean": f32(channels),
        "var": np.abs(f32(channels)) + np.float32(0.1),
    }


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_batch_norm_behind_a_convolution(op: str, groups: int, bias: bool) -> None:
    out = 8
    shape = (out, 4 // groups, 3, 3) if op == "Conv" else (4, out // groups, 3, 3)
    constants = {"w": f32(*shape), **batch_norm(out)}
    if bias:
        constants["b"] = f32(out)
    model = build(
        [
            helper.make_node(op, ["x", "w", *(["b"] if bias else [])], ["c"], group=groups, pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], epsilon=1e-3),
        ],
        constants,
    )
    before = outputs(model)
    assert fold_affine(model) == {"BatchNormalization": 1}
    assert operators(model) == [op]
    np.testing.assert_allclose(outputs(model), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [("c", "k"), ("k", "c")])
@pytest.mark.parametrize("op", ["Mul", "Add", "Sub", "Div"])
def test_constants_per_channel(op: str, order: tuple[str, str]) -> None:
    constants = {"w": f32(6, 4, 1, 1), "k": np.abs(f32(1, 6, 1, 1)) + np.float32(0.5)}
    model = build([helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(op, list(order), ["y"])], constants)
    before = outputs(model)
    folded = fold_affine(model)
    assert folded == ({} if op == "Div" and order[0] == "k" else {op: 1})
    np.testing.assert_allclose(outputs(model), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_addition_before_an_unpadded_convolution(kernel: int, groups: int) -> None:
    constants = {"w": f32(6, 4 // groups, kernel, kernel), "b": f32(6), "k": f32(1, 4, 1, 1)}
    model = build(
        [
            helper.make_node("Add", ["x", "k"], ["a"]),
            helper.make_node("Conv", ["a", "w", "b"], ["y"], group=groups),
        ],
        constants,
    )
    before = outputs(model)
    assert fold_affine(model) == {"Add": 1}
    assert len(model.graph) == 1
    np.testing.assert_allclose(outputs(model), before, rtol=1e-5, atol=1e-5)


def test_what_is_not_folded() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["c"])
    weight = {"w": f32(6, 4, 1, 1)}
    padded = [
        helper.make_node("Add", ["x", "k"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    cases = {
        "one number for all channels": ([conv, helper.make_node("Mul", ["c", "k"], ["y"])], {"k": f32(1)}),
        "along the width": ([conv, helper.make_node("Mul", ["c", "k"], ["y"])], {"k": f32(7)}),
        "another reader": (
            [conv, helper.make_node("Mul", ["c", "k"], ["m"]), helper.make_node("Add", ["m", "c"], ["y"])],
            {"k": f32(1, 6, 1, 1)},
        ),
        "padding": (padded, {"k": f32(1, 4, 1, 1)}),
    }
    for name, (nodes, more) in cases.items():
        assert fold_affine(build(nodes, weight | more)) == {}, name


def test_shape_arithmetic_becomes_constant() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "two"], ["h"]),
        helper.make_node("Mul", ["h", "k"], ["hk"]),
        helper.make_node("Unsqueeze", ["hk", "zero"], ["u"]),
        helper.make_node("Concat", ["u", "rest"], ["shape"], axis=0),
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Reshape", ["i", "shape"], ["y"]),
    ]
    constants = {
        "two": np.array(2),
        "k": np.array(2),
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    model = build(nodes, constants)
    before = outputs(model)
    assert len(FoldConstants()(model).report.changed) == 6
    assert operators(model) == ["Reshape"]
    np.testing.assert_array_equal(outputs(model), before)
    assert dims(by_name(model.graph)["y"]) == (10, 14)


def test_half_to_float() -> None:
    weight = f32(6, 4, 1, 1).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1.5], np.float16))),
        helper.make_node("Conv", ["h", "w"], ["c"]),
        helper.make_node("Add", ["c", "one"], ["o"]),
        helper.make_node("Cast", ["o"], ["y"], to=TensorProto.FLOAT),
    ]
    model = build(nodes, {"w": weight})
    assert len(ToFloat32()(model).report.changed) == 3
    FoldConstants()(model)
    got = outputs(model)
    assert set(operators(model)) <= {"Conv", "Add", "Cast"}
    x = np.random.default_rng(1).standard_normal((1, 4, 5, 7), np.float32)
    expected = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0].astype(np.float64), x) + 1.5
    np.testing.assert_allclose(got, expected, atol=1e-5)
