"""From fp16 to fp32: a half-precision file computes the same network, rounded; the engines want it in float32.

Every fp16 weight is exactly representable in fp32, so nothing is lost: only the arithmetic becomes finer.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgedet_export.onnx_graph import OnnxGraph

__all__ = ["to_float32"]


def to_float32(graph: OnnxGraph) -> int:
    """Convert every fp16 tensor, attribute, cast, input and output to fp32, in place.

    Returns:
        How many of them were changed; 0 for a file without fp16.
    """
    changed = 0
    for name in graph.initializer_names:
        value = graph.constant(name)
        if value is not None and value.dtype == np.float16:
            graph.set_constant(name, value.astype(np.float32))
            changed += 1
    for node in graph.nodes:
        for item in node.attribute:
            if item.type == onnx.AttributeProto.TENSOR and item.t.data_type == TensorProto.FLOAT16:
                item.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item.t).astype(np.float32)))
                changed += 1
            elif node.op_type == "Cast" and item.name == "to" and item.i == TensorProto.FLOAT16:
                item.i = TensorProto.FLOAT
                changed += 1
    for value_info in (*graph.inputs.values(), *graph.outputs.values()):
        if value_info.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value_info.type.tensor_type.elem_type = TensorProto.FLOAT
            changed += 1
    if changed:
        graph.forget_shapes()
    return changed
