"""The stem over 2x2 cells computes what it computed over pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import constant, dims
from edgedet_export.graph.walks import nodes_of
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.stem_to_depth import StemToDepth

Pads = tuple[int, int, int, int]


def stem(
    kernel: int | tuple[int, int],
    pads: Pads | None,
    *,
    size_hw: tuple[int, int | None] = (12, 16),
    stride: int = 2,
    channels: int = 3,
    batch: int | None = 1,
    dilation: int = 1,
    groups: int = 1,
    dtype: int = TensorProto.UINT8,
    perm: tuple[int, ...] = (0, 3, 1, 2),
) -> onnx.ModelProto:
    """Return uint8 NHWC → Transpose → Cast → Conv → Relu; without pads the operator finds its own."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    weight = np.random.default_rng(0).normal(size=(6, channels // groups, *sides)).astype(np.float32)
    padding = {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": pads}
    nodes = [
        helper.make_node("Transpose", ["images"], ["bytes"], perm=perm),
        helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node(
            "Conv",
            ["floats", "w", "b"],
            ["stem"],
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            group=groups,
            **padding,
        ),
        helper.make_node("Relu", ["stem"], ["out"]),
    ]
    weights = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.arange(6, dtype=np.float32), "b"),
    ]
    images = helper.make_tensor_value_info("images", dtype, [batch, *size_hw, channels])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 6, None, None])
    graph = helper.make_graph(nodes, "stem", [images], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    shaped = from_proto(model)
    infer_shapes(shaped)
    return to_proto(shaped)


def stem_to_depth(model: onnx.ModelProto) -> onnx.ModelProto:
    result = StemToDepth()(from_proto(model))
    return to_proto(result.model) if result.modified else model


def run(model: onnx.ModelProto, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return onnx_runner(model, threads=1, optimize=False)(image)["out"]


@pytest.mark.parametrize(
    ("kernel", "pads", "cells_hw"),
    [
        (6, (2, 2, 2, 2), (3, 3)),
        (3, (1, 1, 1, 1), (2, 2)),
        (3, (0, 0, 1, 1), (2, 2)),
        (7, (3, 3, 3, 3), (4, 4)),
        (2, (0, 0, 0, 0), (1, 1)),
        (5, (2, 1, 2, 3), (3, 3)),
        (4, (3, 3, 0, 0), (3, 3)),
        ((3, 6), (1, 2, 1, 2), (2, 3)),
        ((6, 1), (2, 0, 2, 0), (3, 1)),
    ],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_same_numbers_on_cells(
    kernel: int | tuple[int, int], pads: Pads, cells_hw: tuple[int, int], channels: int
) -> None:
    model = stem(kernel, pads, channels=channels)
    moved = stem_to_depth(model)
    onnx.checker.check_model(moved, full_check=True)
    (conv,) = nodes_of(from_proto(moved).graph, "Conv")
    weight = constant(conv.inputs[1])
    assert weight is not None
    assert weight.shape == (6, 4 * channels, *cells_hw), "no cell beyond those that hold a tap"
    assert conv.inputs[0] is not None
    assert (conv.inputs[0].name, conv.outputs[0].name) == ("floats", "stem")
    image = np.random.default_rng(1).integers(0, 256, (1, 12, 16, channels)).astype(np.uint8)
    expected = run(model, image)
    np.testing.assert_allclose(run(moved, image), expected, rtol=0, atol=2e-6 * float(np.abs(expected).max()))


def test_an_input_of_unknown_size_stays_even_where_the_output_is_known() -> None:
    model = stem(3, (1, 1, 1, 1))
    for i in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[i].ClearField("dim_value")
    assert stem_to_depth(model) is model


@pytest.mark.parametrize(
    "model",
    [
        stem(3, (1, 1, 1, 1), stride=1),
        stem(3, (1, 1, 1, 1), size_hw=(15, 16)),
        stem(3, (1, 1, 1, 1), perm=(0, 3, 2, 1)),
        stem(3, (1, 1, 1, 1), size_hw=(12, 15)),
        stem(3, (1, 1, 1, 1), channels=12),
        stem(3, (1, 1, 1, 1), channels=5),
        stem(3, (1, 1, 1, 1), size_hw=("h", "w")),  # type: ignore[arg-type]
        stem(3, (1, 1, 1, 1), batch=2),
        stem(3, (1, 1, 1, 1), batch=None),
        stem(3, (1, 1, 1, 1), dilation=2),
        stem(3, None),
        stem(3, (1, 1, 1, 1), groups=3),
        stem(3, (1, 1, 1, 1), dtype=TensorProto.INT8),
    ],
    ids=[
        "stride 1",
        "odd rows",
        "columns first",
        "odd columns",
        "many channels",
        "five channels",
        "unknown size",
        "batch",
        "any batch",
        "dilated",
        "auto_pad",
        "groups",
        "signed bytes",
    ],
)
def test_others_stay_as_they_are(model: onnx.ModelProto) -> None:
    assert stem_to_depth(model) is model


def shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = from_proto(model)
    infer_shapes(graph)
    return to_proto(graph)


def test_attributes_that_are_left_out() -> None:
    model = stem(2, (0, 0, 0, 0))
    conv = model.graph.node[2]
    for name in ("pads", "dilations", "group"):
        conv.attribute.remove(next(a for a in conv.attribute if a.name == name))
    moved = stem_to_depth(model)
    assert moved is not model
    image = np.random.default_rng(1).integers(0, 256, (1, 12, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(run(moved, image), run(model, image), rtol=1e-5, atol=1e-3)
    conv.attribute.remove(next(a for a in conv.attribute if a.name == "strides"))
    assert not StemToDepth()(from_proto(shaped(model))).modified, "a stride that is left out is 1"


@pytest.mark.parametrize(("strides", "dilations"), [([2, 1], [1, 1]), ([1, 2], [1, 1]), ([2, 2], [1, 2])])
def test_a_stride_or_dilation_of_one_axis_alone(strides: list[int], dilations: list[int]) -> None:
    model = stem(3, (1, 1, 1, 1))
    conv = model.graph.node[2]
    for name, value in (("strides", strides), ("dilations", dilations)):
        conv.attribute.remove(next(a for a in conv.attribute if a.name == name))
        conv.attribute.append(helper.make_attribute(name, value))
    assert not StemToDepth()(from_proto(shaped(model))).modified


def test_a_kernel_of_one_pixel_beside_the_picture() -> None:
    """With one row and column of padding on one side alone, its only tap lies in the last quarter of a cell."""
    model = stem(1, (1, 1, 0, 0))
    moved = stem_to_depth(model)
    image = np.random.default_rng(1).integers(0, 256, (1, 12, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(run(moved, image), run(model, image), rtol=1e-5, atol=1e-3)


def also_read(tensor: str) -> onnx.ModelProto:
    model = stem(3, (1, 1, 1, 1))
    model.graph.node.append(helper.make_node("Shape", [tensor], ["seen"]))
    model.graph.output.append(helper.make_tensor_value_info("seen", TensorProto.INT64, [4]))
    return model


@pytest.mark.parametrize("tensor", ["images", "bytes", "floats"])
def test_a_tensor_on_the_way_that_is_read_elsewhere(tensor: str) -> None:
    assert not StemToDepth()(from_proto(also_read(tensor))).modified


@pytest.mark.parametrize("place", [0, 1, 2])
def test_another_operator_on_the_way(place: int) -> None:
    model = stem(3, (1, 1, 1, 1))
    before = model.graph.node[place].input[0]
    model.graph.node[place].input[0] = "same"
    model.graph.node.insert(place, helper.make_node("Identity", [before], ["same"]))
    assert not StemToDepth()(from_proto(shaped(model))).modified


def test_weights_that_are_no_constant_and_an_input_that_nobody_reads() -> None:
    model = stem(3, (1, 1, 1, 1))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [6, 3, 3, 3]))
    del model.graph.initializer[0]
    assert not StemToDepth()(from_proto(model)).modified


def test_the_report_says_what_was_done_or_why_not() -> None:
    def why(model: onnx.ModelProto) -> list[tuple[str, str]]:
        report = StemToDepth()(from_proto(model)).report
        return [(c.path, "done") for c in report.changed] + [(d.path, d.why) for d in report.declined]

    assert why(stem(3, (1, 1, 1, 1))) == [("stem", "done")]
    assert why(stem(3, (1, 1, 1, 1), channels=5)) == [("stem", "it is grouped or has more than 4 channels")]
    assert why(stem(3, None)) == [("stem", "it pads by itself")]
    assert why(stem(3, (1, 1, 1, 1), batch=2)) == [("stem", "the input has an odd side or a batch")]
    unknown = stem(3, (1, 1, 1, 1))
    unknown.graph.ClearField("value_info")
    assert why(unknown) == [("stem", "its size is not known")]
    assert why(also_read("images")) == []


def test_the_new_tensors_have_shapes_and_nothing_dead_is_left() -> None:
    moved = StemToDepth()(from_proto(stem(3, (1, 1, 1, 1)))).model
    values = {value.name: value for node in moved.graph for value in node.outputs}
    assert dims(values["floats"]) == (1, 12, 6, 8)
    assert dims(values["stem"]) == (1, 6, 6, 8)
    assert "w" not in moved.graph.initializers
    assert [n.op_type for n in moved.graph].count("Transpose") == 1
