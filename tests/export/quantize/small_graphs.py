"""Graphs of a few nodes, written as text, with weights drawn by name."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper, parser

from edgedet_export.graph.conversion import from_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.tensor_ranges import TensorRanges


def small_model(text: str, **weights: npt.NDArray[np.generic] | tuple[int, ...]) -> ir.Model:
    """Return a model with shapes.

    Args:
        text: ``(float[1,4,8,8] x) => (float[] y) { … }`` as onnx.parser reads it; ``float[]`` outputs are inferred.
        weights: Initializers: arrays, or the shapes of random ones.
    """
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1]> small {text}')
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else draw(name, value)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for output in proto.graph.output:
        output.CopyFrom(helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, None))
    model = from_proto(proto)
    infer_shapes(model)
    return model


def draw(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return normal numbers that depend on the name."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)


def ranges_of(
    model: ir.Model, default: tuple[float, float] = (-1.0, 1.0), **bounds: tuple[float, float]
) -> TensorRanges:
    """Return ranges from smallest to largest element: `bounds` by tensor, `default` for all others."""
    made = {}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for name in (value.name or "" for value in values):
        made[name] = TensorStatistics()
        made[name].update(np.array([[bounds.get(name, default)]], np.float32))
    return TensorRanges(made, "minmax")


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that onnx's checker accepts."""
    onnx.checker.check_model(model, full_check=True)
    return model
