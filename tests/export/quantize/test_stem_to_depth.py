"""The stem over 2x2 cells computes what it computed over pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import constant
from edgedet_export.graph.walks import nodes_of
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.stem_to_depth import StemToDepth

Pads = tuple[int, int, int, int]


def stem(
    kernel: int,
    pads: Pads | None,
    *,
    size_hw: tuple[int, int | None] = (12, 16),
    stride: int = 2,
    channels: int = 3,
    batch: int | None = 1,
    dilation: int = 1,
    groups: int = 1,
    dtype: int = TensorProto.UINT8,
) -> onnx.ModelProto:
    """Return uint8 NHWC → Transpose → Cast → Conv → Relu; without pads the operator finds its own."""
    weight = np.random.default_rng(0).normal(size=(6, channels // groups, kernel, kernel)).astype(np.float32)
    padding = {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": pads}
    nodes = [
        helper.make_node("Transpose", ["images"], ["bytes"], perm=[0, 3, 1, 2]),
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
    ],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_same_numbers_on_cells(kernel: int, pads: Pads, cells_hw: tuple[int, int], channels: int) -> None:
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
        stem(3, (1, 1, 1, 1), size_hw=(13, 16)),
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
