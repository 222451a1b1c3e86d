"""Tiny ONNX detectors for tests: one convolution per output, spec inside, no training framework needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

CLASSES = ("cat", "dog", "owl")
STRIDE = 8

TINY_SPEC = ModelSpec(
    family="custom",
    variant="tiny",
    input=InputSpec("image", 64, 96),
    resize=ResizeSpec(),
    decode=DecodeSpec("points-exp", (LevelSpec(STRIDE, boxes="boxes", scores="scores", objectness="objectness"),)),
    classes=CLASSES,
    thresholds=Thresholds(conf=0.25, iou=0.45, max_det=50),
    licence="Apache-2.0",
    tool_version="test",
)


def tiny_onnx(
    path: Path,
    spec: ModelSpec | None = TINY_SPEC,
    *,
    quantised: bool = False,
    nan_output: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a detector of one stride-8 level whose outputs depend on the picture.

    Args:
        path: File to write.
        spec: Stored in the file; None stores none. `TINY_SPEC` or a variation of its input.
        quantised: Put a QuantizeLinear/DequantizeLinear pair behind the input.
        nan_output: Name of an output that shall be NaN everywhere.
        seed: Of the weights.
    """
    shape = (spec or TINY_SPEC).input
    rng = np.random.default_rng(seed)
    nchw = shape.layout == "NCHW"
    dims = [1, 3, shape.height, shape.width] if nchw else [1, shape.height, shape.width, 3]
    dtype = TensorProto.FLOAT if shape.dtype == "float32" else TensorProto.UINT8
    nodes, weights = [], []
    x = shape.name
    if shape.dtype == "uint8":
        nodes.append(helper.make_node("Cast", [x], ["as_float"], to=TensorProto.FLOAT))
        x = "as_float"
    if not nchw:
        nodes.append(helper.make_node("Transpose", [x], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    if shape.dtype == "uint8":
        weights.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
        nodes.append(helper.make_node("Mul", [x, "scale"], ["scaled"]))
        x = "scaled"
    if quantised:
        weights.append(numpy_helper.from_array(np.float32(1 / 255), "q_scale"))
        weights.append(numpy_helper.from_array(np.uint8(0), "q_zero"))
        nodes.append(helper.make_node("QuantizeLinear", [x, "q_scale", "q_zero"], ["quantised"]))
        nodes.append(helper.make_node("DequantizeLinear", ["quantised", "q_scale", "q_zero"], ["dequantized"]))
        x = "dequantized"
    outputs = []
    grid = [shape.height // STRIDE, shape.width // STRIDE]
    for name, channels, gain in (("boxes", 4, 1.0), ("objectness", 1, 4.0), ("scores", len(CLASSES), 4.0)):
        kernel = rng.normal(0, gain / 8, (channels, 3, STRIDE, STRIDE)).astype(np.float32)
        bias = np.full(channels, np.nan if name == nan_output else 0.0, np.float32)
        weights += [numpy_helper.from_array(kernel, f"{name}_w"), numpy_helper.from_array(bias, f"{name}_b")]
        nodes.append(
            helper.make_node(
                "Conv",
                [x, f"{name}_w", f"{name}_b"],
                [name],
                strides=[STRIDE, STRIDE],
                kernel_shape=[STRIDE, STRIDE],
            )
        )
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *grid]))
    graph = helper.make_graph(nodes, "tiny", [helper.make_tensor_value_info(shape.name, dtype, dims)], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if spec is not None:
        helper.set_model_props(model, {"edgedet": spec.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def with_input(**changes: object) -> ModelSpec:
    """Return `TINY_SPEC` with some fields of its input changed."""
    return TINY_SPEC.replace(input=dataclasses.replace(TINY_SPEC.input, **changes))  # type: ignore[arg-type]


def random_image(height: int = 120, width: int = 200, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a uint8 BGR picture of colored noise blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(8, 0).repeat(8, 1)[:height, :width])
