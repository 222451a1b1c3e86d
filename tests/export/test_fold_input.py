"""The camera's bytes give the same raw outputs as the network's own input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedet_export.fold_input import fold_input
from edgedet_export.pictures import probe_picture
from edgedet_export.stages import onnx_stage
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "scale": 1 / 255}


def network(first: str, **normalization: Any) -> tuple[onnx.ModelProto, ModelSpec]:
    """A graph whose input is read by `first`: a padded or unpadded convolution, a grouped one, or a plain operator."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((4, 1 if first == "grouped" else 3, 3, 3)).astype(np.float32)
    weight = np.repeat(weight, 3, axis=0)[:6] if first == "grouped" else weight
    initializers = [onnx.numpy_helper.from_array(weight, "w")]
    pads = [0] * 4 if first == "unpadded" else [1] * 4
    if first == "relu":
        nodes = [helper.make_node("Relu", ["images"], ["y"])]
        nodes.append(helper.make_node("Conv", ["y", "w"], ["boxes_0"], pads=pads))
    else:
        group = 3 if first == "grouped" else 1
        nodes = [helper.make_node("Conv", ["images", "w"], ["boxes_0"], pads=pads, group=group)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 16, 24])],
        [helper.make_tensor_value_info("boxes_0", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec(
        family="custom",
        variant="x",
        input=InputSpec("images", 16, 24, layout="NCHW", dtype="float32", **normalization),
        resize=ResizeSpec(),
        decode=DecodeSpec("ltrb", (LevelSpec(8, "boxes_0", "boxes_0"),), score="cls"),
        classes=tuple("abcdef"[: len(weight)]),
    )
    return model, spec


@pytest.mark.parametrize("first", ["padded", "unpadded", "grouped", "relu"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("normalization", [{}, {"scale": 1 / 255}, IMAGENET], ids=["bytes", "unit", "imagenet"])
def test_bytes_give_the_same_outputs(first: str, color: str, normalization: dict[str, Any]) -> None:
    model, spec = network(first, color=color, **normalization)
    folded, folded_spec = fold_input(model, spec)
    assert folded_spec.input == InputSpec("images", 16, 24)
    image = [probe_picture((16, 24))]
    expected = onnx_stage("before", model, spec)(image)[0][0]
    got = onnx_stage("after", folded, folded_spec)(image)[0][0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_scale_and_order_cost_no_node() -> None:
    folded, _ = fold_input(*network("padded", color="RGB", scale=1 / 255))
    assert operators(folded) == ["Transpose", "Cast", "Conv"]


def test_mean_costs_a_node_only_where_the_convolution_pads() -> None:
    assert operators(fold_input(*network("padded", **IMAGENET))[0]) == ["Transpose", "Cast", "Sub", "Conv"]
    assert operators(fold_input(*network("unpadded", **IMAGENET))[0]) == ["Transpose", "Cast", "Conv"]


def test_the_model_itself_is_not_changed() -> None:
    model, spec = network("padded", color="RGB", scale=1 / 255)
    before = model.SerializeToString()
    fold_input(model, spec)
    assert model.SerializeToString() == before


def test_folding_twice_is_refused() -> None:
    folded, spec = fold_input(*network("padded"))
    with pytest.raises(ModelFileError, match="expected float32 NCHW, got uint8 NHWC"):
        fold_input(folded, spec)
