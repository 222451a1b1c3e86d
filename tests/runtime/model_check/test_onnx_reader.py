"""What the reader of ONNX refuses, and what it lets through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_runtime.engines import load_engine
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import check_model
from edgedet_runtime.model_check.onnx_arity import ARITIES
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx

Change = Callable[[onnx.ModelProto], None]


def changed(tmp_path: Path, change: Change) -> Path:
    """Write the tiny detector with a change."""
    path = tiny_onnx(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def identity_graph(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    """Return a graph without inputs that gives out one constant."""
    constant = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.float32(1)))
    return helper.make_graph([constant, *nodes], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [])])


def loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["endless"], body=identity_graph("body")))


def loop_within_if(model: onnx.ModelProto) -> None:
    inner = identity_graph("then", helper.make_node("Loop", ["", ""], ["endless"], body=identity_graph("body")))
    node = helper.make_node("If", ["yes"], ["either"], then_branch=inner, else_branch=identity_graph("else"))
    model.graph.node.append(node)


def plain_if(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    branches = {"then_branch": identity_graph("then"), "else_branch": identity_graph("else")}
    model.graph.node.append(helper.make_node("If", ["yes"], ["either"], **branches))


def loop_within_function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Loop", ["", ""], ["endless"], body=identity_graph("body"))
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("mine", "again", [], ["endless"], [node], opsets))


def function_with_default(attribute: onnx.AttributeProto) -> Change:
    def change(model: onnx.ModelProto) -> None:
        functions_calling({"f0": []})(model)
        model.functions[0].attribute_proto.append(attribute)

    return change


def other_graph_holder(model: onnx.ModelProto) -> None:
    node = helper.make_node("BeamSearch", ["x"], ["y"], domain="com.microsoft", decoder=identity_graph("body"))
    model.graph.node.append(node)


def functions_calling(calls: dict[str, list[str]]) -> Change:
    def change(model: onnx.ModelProto) -> None:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        for name, called in calls.items():
            nodes = [helper.make_node(other, ["x"], [f"y{i}"], domain="mine") for i, other in enumerate(called)]
            nodes.append(helper.make_node("Identity", ["x"], ["y"]))
            model.functions.append(helper.make_function("mine", name, ["x"], ["y"], nodes, opsets))
        model.graph.node.append(helper.make_node("f0", ["boxes"], ["z"], domain="mine"))

    return change


def first_weight(**values: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        for name, value in values.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return change


def shape_of_input(*dims: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.input[0].type.tensor_type.shape.dim[:]
        for size in dims:
            model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=size)

    return change


def conv_without_weights(model: onnx.ModelProto) -> None:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    del conv.input[1:]


def first_conv(model: onnx.ModelProto) -> onnx.NodeProto:
    conv: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == "Conv")
    return conv


def kernel_from_nowhere(model: onnx.ModelProto) -> None:
    first_conv(model).input[1] = "nowhere"


def conv_with(**attributes: object) -> Change:
    def change(model: onnx.ModelProto) -> None:
        conv = first_conv(model)
        kept = [a for a in conv.attribute if a.name not in attributes]
        del conv.attribute[:]
        conv.attribute.extend([*kept, *(helper.make_attribute(n, v) for n, v in attributes.items())])

    return change


def kernel(*shape: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "other"))
        first_conv(model).input[1] = "other"

    return change


def unmade_within_if(model: onnx.ModelProto) -> None:
    plain_if(model)
    inner = model.graph.node[-1].attribute[0].g
    inner.node.append(helper.make_node("Neg", ["nowhere"], ["n"]))


def unmade_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("nowhere", TensorProto.FLOAT, [1]))


def unmade_within_function(model: onnx.ModelProto) -> None:
    functions_calling({"f0": []})(model)
    model.functions[0].node[0].input[0] = "nowhere"


def two_makers(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["boxes"], ["scores"]))


def many(name: str, count: int = 40) -> list[str]:
    return [name] * count


UNFOLDING = {f"f{i}": many(f"f{i + 1}") for i in range(5)} | {"f5": []}

REFUSED: dict[str, tuple[Change, str]] = {
    "loop": (loop, "operators: expected none that repeats a graph, got Loop"),
    "loop in if": (loop_within_if, "got Loop, which may never end"),
    "loop in function": (loop_within_function, "got Loop, which may never end"),
    "another holder": (other_graph_holder, "got BeamSearch, which may never end"),
    "unfolds": (functions_calling(UNFOLDING), "expected at most 200000 nodes, functions unfolded"),
    "calls itself": (functions_calling({"f0": ["f1"], "f1": ["f0"]}), "expected none that calls itself, got f0"),
    "raw too long": (first_weight(raw_data=b"\0" * 8), "expected 4 bytes as their shape and type say, got 8"),
    "raw too short": (first_weight(raw_data=b""), "expected 4 bytes as their shape and type say, got 0"),
    "shape": (first_weight(dims=[2]), "expected 8 bytes as their shape and type say, got 4"),
    "type": (first_weight(data_type=TensorProto.DOUBLE), "expected 8 bytes as their shape and type say, got 4"),
    "no type": (first_weight(data_type=99), "expected a type of ONNX, got number 99"),
    "negative": (first_weight(dims=[-1, -1]), "expected a shape of 0 to 2147483647 elements, got -1"),
    "product": (first_weight(dims=[2**32, 2**32]), "expected a shape of 0 to 2147483647 elements"),
    "large beside nothing": (first_weight(dims=[0, 2**62]), "expected a shape of 0 to 2147483647 elements"),
    "input": (shape_of_input(1, 2**20, 2**20, 3), "tensor image: expected a shape of 0 to 2147483647 elements"),
    "arity": (conv_without_weights, "expected 2 to 3 inputs of Conv, got 1"),
    "unmade": (kernel_from_nowhere, "tensor nowhere, read by Conv: expected a maker"),
    "unmade in if": (unmade_within_if, "tensor nowhere, read by Neg: expected a maker, got none"),
    "unmade in function": (unmade_within_function, "tensor nowhere, read by Identity: expected a maker, got none"),
    "unmade output": (unmade_output, "tensor nowhere, read by the output: expected a maker, got none"),
    "graph as a default": (
        function_with_default(helper.make_attribute("body", identity_graph("body"))),
        "functions: expected plain default values, got a graph",
    ),
    "two makers": (two_makers, "tensor scores: expected one producer, got two"),
    "stride": (conv_with(strides=[8, 0]), "expected strides of 1 or more, got 0"),
    "dilation": (conv_with(dilations=[-1, 1]), "expected dilations of 1 or more, got -1"),
    "group": (conv_with(group=0), "expected group of 1 or more, got 0"),
    "large kernel": (conv_with(kernel_shape=[2**40, 8]), "expected kernel_shape of 1 or more, got 1099511627776"),
    "empty kernel": (kernel(0, 3, 8, 8), "expected a kernel of 3 to 5 dimensions, none 0, got 0×3×8×8"),
    "flat kernel": (kernel(4, 3), "expected a kernel of 3 to 5 dimensions, none 0, got 4×3"),
    "training": (lambda m: m.training_info.add().algorithm.CopyFrom(identity_graph("step")), "training steps"),
    "sparse": (lambda m: m.graph.sparse_initializer.add().dims.extend([4]), "expected dense ones, got sparse"),
    "no output": (lambda m: m.graph.node[0].ClearField("output"), "got Cast without outputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    path = changed(tmp_path, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        check_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_functions_may_have_plain_defaults(tmp_path: Path) -> None:
    check_model(changed(tmp_path, function_with_default(helper.make_attribute("alpha", 0.5))))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "opencv"])
def test_no_engine_opens_what_is_refused(engine: str, tmp_path: Path) -> None:
    path = changed(tmp_path, loop)
    with pytest.raises(ModelFileError, match="got Loop"):
        load_engine(engine, path, TINY_SPEC, threads=1)  # type: ignore[arg-type]


TYPED: dict[str, tuple[int, list[Any]]] = {
    "float": (TensorProto.FLOAT, [0.5, 1.0]),
    "double": (TensorProto.DOUBLE, [0.5, 1.0]),
    "int64": (TensorProto.INT64, [-1, 300]),
    "int32": (TensorProto.INT32, [-1, 300]),
    "uint64": (TensorProto.UINT64, [1, 2**63]),
    "bool": (TensorProto.BOOL, [True, False]),
    "half": (TensorProto.FLOAT16, [0.5, 1.0]),
    "int4": (TensorProto.INT4, [1, -2]),
    "complex": (TensorProto.COMPLEX64, [1 + 2j, 0]),
    "text": (TensorProto.STRING, ["a", "b"]),
}


@pytest.mark.parametrize("case", TYPED)
def test_weights_in_lists_of_numbers(case: str, tmp_path: Path) -> None:
    kind, values = TYPED[case]
    tensor = helper.make_tensor("more", kind, [2], values)
    check_model(changed(tmp_path, lambda m: m.graph.initializer.append(tensor)))
    longer = onnx.TensorProto.FromString(tensor.SerializeToString())
    del longer.dims[:]
    longer.dims.append(6)
    with pytest.raises(ModelFileError, match="weights more: expected"):
        check_model(changed(tmp_path, lambda m: m.graph.initializer.append(longer)))


def test_long_lists_of_other_attributes_are_let_through(tmp_path: Path) -> None:
    check_model(changed(tmp_path, conv_with(anything=list(range(100)))))


def test_names_of_the_graph_around_are_seen_within_if(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        plain_if(model)
        model.graph.node[-1].attribute[0].g.node.append(helper.make_node("Neg", ["boxes"], ["n"]))

    check_model(changed(tmp_path, change))


def test_if_is_let_through(tmp_path: Path) -> None:
    check_model(changed(tmp_path, plain_if))


@pytest.mark.parametrize("content", [b"", b"onnx", b"\x3a\x7fgraph", b"\x0a" * 30])
def test_no_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="expected an ONNX file, got "):
        check_model(path)


def test_a_file_of_endless_fields_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedet_runtime.onnx_file.MOST_FIELDS", 1000)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" * 1001)
    with pytest.raises(ModelFileError, match="more than 1000 fields"):
        check_model(path)


def test_outputs_that_are_declared(tmp_path: Path) -> None:
    outline = check_model(tiny_onnx(tmp_path / "model.onnx"))
    assert outline.outputs == {"boxes": (1, 4, 8, 12), "objectness": (1, 1, 8, 12), "scores": (1, 3, 8, 12)}


def test_arities_are_those_of_onnx() -> None:
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if not s.domain]
    for op, arity in ARITIES.items():
        versions = [s for s in schemas if s.name == op]
        most = min(max(s.max_input for s in versions), 1 << 16)
        assert arity == (min(s.min_input for s in versions), most), op
