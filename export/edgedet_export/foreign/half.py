"""From fp16 to fp32: a half-precision file computes the same network, rounded; the engines want it in float32.

Every fp16 weight is exactly representable in fp32, so nothing is lost: only the arithmetic becomes finer.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors
from edgedet_export.graph.shapes import forget_shapes
from edgedet_export.graph.values import array_of, constant, elem_type
from edgedet_export.onnx_passes import OnnxPass, PassRecord

__all__ = ["ToFloat32"]


class ToFloat32(OnnxPass):
    """Convert every fp16 tensor, attribute, cast, input and output to fp32; nothing in a file without fp16."""

    name = "to-float32"

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Convert in place; shapes and types of inner tensors are forgotten where anything was converted."""
        graph = model.graph
        new = NewTensors(graph)
        for name, value in list(graph.initializers.items()):
            array = constant(value) if elem_type(value) == ir.DataType.FLOAT16 else None
            if array is not None:
                new.named_constant(name, array.astype(np.float32))
                record.change(name, "float16 weight → float32")
        for node in graph:
            self._attributes(node, record)
        for value in (*graph.inputs, *graph.outputs):
            if value.dtype == ir.DataType.FLOAT16:
                value.type = ir.TensorType(ir.DataType.FLOAT)
                record.change(value, "float16 input or output → float32")
        if record.changed:
            forget_shapes(model)

    @staticmethod
    def _attributes(node: ir.Node, record: PassRecord) -> None:
        for name, item in list(node.attributes.items()):
            if item.type == ir.AttributeType.TENSOR and item.value.dtype == ir.DataType.FLOAT16:
                array = array_of(item.value, f"{node.op_type}.{name}").astype(np.float32)
                node.attributes[name] = ir.AttrTensor(name, ir.Tensor(array))
                record.change(node.outputs[0], f"float16 {name} of {node.op_type} → float32")
            elif node.op_type == "Cast" and name == "to" and item.value == ir.DataType.FLOAT16:
                node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT)
                record.change(node.outputs[0], "Cast to float16 → to float32")
