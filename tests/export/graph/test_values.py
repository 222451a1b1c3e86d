"""Questions to tensors, nodes and shapes, and walks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgedet_export.graph.conversion import from_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.shapes import forget_shapes, infer_shapes
from edgedet_export.graph.values import (
    attribute,
    constant,
    dims,
    elem_type,
    input_at,
    known_dims,
    name_of,
    only_reader,
)
from edgedet_export.graph.walks import nodes_of, reads, walk_down, walk_up
from edgedet_runtime.errors import ModelFileError
from tests.export.graph.chain import chain, with_subgraph


def test_constants_come_from_initializers_and_constant_nodes() -> None:
    values = by_name(from_proto(chain()).graph)
    np.testing.assert_array_equal(constant(values["w"]), np.ones((2, 3, 1, 1)))
    np.testing.assert_array_equal(constant(values["one"]), [1.0])
    assert dims(values["one"]) == (1,)
    assert elem_type(values["one"]) == ir.DataType.FLOAT
    assert constant(values["images"]) is None
    assert constant(None) is None


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.5, 2.5]}, np.array([1.5, 2.5], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_string": "x"}, None),
        ({"value": numpy_helper.from_array(np.array([[7]], np.uint8))}, np.array([[7]], np.uint8)),
    ],
)
def test_each_form_of_a_constant_node(attributes: dict[str, Any], expected: Any) -> None:
    proto = chain()
    node = next(n for n in proto.graph.node if n.op_type == "Constant")
    node.CopyFrom(helper.make_node("Constant", [], ["one"], **attributes))
    value = by_name(from_proto(proto).graph)["one"]
    got = constant(value)
    if expected is None:
        assert got is None
        return
    np.testing.assert_array_equal(got, np.asarray(expected), strict=True)
    assert dims(value) == np.shape(expected)


def test_a_constant_that_is_no_tensor_is_an_error() -> None:
    proto = chain()
    node = next(n for n in proto.graph.node if n.op_type == "Constant")
    node.CopyFrom(helper.make_node("Constant", [], ["one"], value=7))
    with pytest.raises(ModelFileError, match="Constant node one: expected a tensor, got INT"):
        constant(by_name(from_proto(proto).graph)["one"])


def test_shapes_are_inferred_and_unknown_ones_are_none() -> None:
    model = from_proto(chain())
    values = by_name(model.graph)
    assert dims(values["c"]) is None
    infer_shapes(model)
    assert dims(values["c"]) == (1, 2, 4, 6)
    assert dims(values["out"]) == (1, 2, 4, 6)
    model.graph.inputs[0].shape = ir.Shape([1, 3, "h", 6])
    infer_shapes(model)
    assert dims(values["out"]) == (1, 2, None, 6)
    assert elem_type(values["c"]) == ir.DataType.FLOAT
    forget_shapes(model)
    assert dims(values["c"]) is None
    assert dims(values["out"]) == (1, 2, None, 6)


def test_inference_drops_what_the_file_declares_and_needs_no_weights() -> None:
    proto = chain()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((900, 3, 1, 1), np.float32), "w"))
    proto.graph.value_info.append(helper.make_tensor_value_info("c", 1, [7, 7, 7, 7]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", 1, [7, 7]))
    model = from_proto(proto)
    infer_shapes(model)
    values = by_name(model.graph)
    assert dims(values["c"]) == dims(values["out"]) == (1, 900, 4, 6)
    assert [value.name for value in model.graph.inputs] == ["images"]


def test_contradictions_are_errors() -> None:
    model = from_proto(chain())
    model.graph.opset_imports.clear()
    with pytest.raises(ModelFileError, match="shape inference failed"):
        infer_shapes(model)


def test_attributes_and_readers() -> None:
    graph = from_proto(chain()).graph
    conv, relu = nodes_of(graph, "Conv", "Relu")
    assert attribute(conv, "kernel_shape") == [1, 1]
    assert attribute(conv, "absent", 7) == 7
    assert input_at(conv, 2) is None
    assert sorted(n.op_type for n in conv.outputs[0].consumers()) == ["Relu", "Sigmoid"]
    assert only_reader(conv.outputs[0]) is None
    assert only_reader(relu.outputs[0]) is nodes_of(graph, "Add")[0]
    assert only_reader(graph.outputs[0]) is None
    inside = from_proto(with_subgraph()).graph
    assert only_reader(by_name(inside)["r"]) is None


def test_walks_stop_where_told() -> None:
    values = by_name(from_proto(chain()).graph)
    up = walk_up([values["out"]], stop=lambda n: n.op_type == "Relu")
    assert [n.op_type for n in up] == ["Add", "Relu", "Constant"]
    assert {n.op_type for n in walk_up([values["out"]])} == {"Add", "Relu", "Constant", "Conv"}
    assert {n.op_type for n in walk_down([values["c"]])} == {"Relu", "Sigmoid", "Add"}
    assert [n.op_type for n in walk_down([values["images"]], stop=lambda n: n.op_type == "Conv")] == ["Conv"]


def test_subgraphs_count_as_readers() -> None:
    graph = from_proto(with_subgraph()).graph
    node = nodes_of(graph, "If")[0]
    assert [value.name for value in reads(node)] == ["cond", "r"]
    assert "Relu" in [n.op_type for n in walk_up(graph.outputs)]


def test_sizes_that_are_all_known() -> None:
    model = from_proto(chain())
    values = by_name(model.graph)
    assert known_dims(None) is None
    assert known_dims(values["c"]) is None
    infer_shapes(model)
    assert known_dims(values["out"]) == (1, 2, 4, 6)
    model.graph.inputs[0].shape = ir.Shape([1, 3, "h", 6])
    assert known_dims(model.graph.inputs[0]) is None
    assert name_of(values["out"]) == "out"
    assert known_dims(ir.val("scalar", ir.DataType.FLOAT, ir.Shape([]))) == ()
