"""Which tensors onnxruntime's placement takes along, and the layers it leaves in front."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.quantize.equalize import equalize
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.targets import get_target
from edgedet_export.quantize.targets.onnxruntime_placement import _data_inputs, _passes_on

SHAPE = [1, 2, 4, 4]


def graph(*nodes: onnx.NodeProto) -> ir.Graph:
    def value(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, SHAPE)

    constants = {"k": np.ones((1, 2, 1, 1), np.float32), "scales": np.ones(4, np.float32), "shape": np.array([1, -1])}
    made = helper.make_graph(
        list(nodes),
        "g",
        [value("a"), value("b"), value("n", TensorProto.INT64)],
        [value(nodes[-1].output[0])],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)).graph


def node(op: str, *inputs: str, **attributes: object) -> onnx.NodeProto:
    made = helper.make_node(op, list(inputs), ["y"], name="y")
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return made


@pytest.mark.parametrize(
    ("made", "data", "one", "both"),
    [
        (node("Concat", "a", "b", axis=1), ["a", "b"], True, True),
        (node("Add", "a", "b"), ["a", "b"], False, True),
        (node("Mul", "b", "a"), ["b", "a"], False, True),
        (node("Add", "a", "k"), ["a"], False, False),
        (node("Mul", "k", "a"), ["a"], False, False),
        (node("Sigmoid", "a"), ["a"], True, True),
        (node("MaxPool", "a", kernel_shape=[1, 1]), ["a"], True, True),
        (node("Resize", "a", "", "scales"), ["a"], True, True),
        (node("Resize", "a", "", "scales", mode="linear"), ["a"], False, False),
        (node("Reshape", "a", "shape"), ["a"], True, True),
        (node("Sub", "a", "b"), ["a"], False, False),
        (node("Identity", "n"), [], False, False),
    ],
    ids=lambda value: f"{value.op_type} {' '.join(value.input)}" if isinstance(value, onnx.NodeProto) else None,
)
def test_operations_on_codes(made: onnx.NodeProto, data: list[str], one: bool, both: bool) -> None:
    """Given codes for `a` alone, and for `a` and `b`."""
    found = graph(made)
    seen = next(iter(found))
    a, b = (by_name(found)[name] for name in ("a", "b"))
    assert [value.name for value in _data_inputs(seen)] == data
    assert _passes_on(seen, {a}) is one
    assert _passes_on(seen, {a, b}) is both
    assert _passes_on(seen, set()) is False


def layer(name: str, channels: int, groups: int = 1) -> ConvLayer:
    return ConvLayer(name, "Conv", f"{name}_in", f"{name}_w", None, (8, channels, 3, 3), groups, 100, False, False)


@pytest.mark.parametrize(
    ("stem", "front"),
    [
        (layer("stem", 3), ["stem", "second"]),
        (layer("stem", 4), ["stem", "second"]),
        (layer("stem", 5), []),
        (layer("stem", 12), []),
        (layer("stem", 1, groups=8), []),
    ],
    ids=["3 channels", "4 channels", "5 channels", "on cells", "depthwise"],
)
def test_the_stem_and_the_layer_behind_it_may_stay_in_float(stem: ConvLayer, front: list[str]) -> None:
    layers = (stem, layer("second", 8), layer("third", 8))
    assert list(get_target("onnxruntime").float_front(layers)) == front


def test_a_convolution_over_one_axis_is_not_equalized() -> None:
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="y")],
        "g",
        [value("x", TensorProto.FLOAT, [1, 4, 8])],
        [value("y", TensorProto.FLOAT, [1, 2, 8])],
        [numpy_helper.from_array(np.ones((2, 4, 1), np.float32), "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert equalize(from_proto(model), {}) is None
