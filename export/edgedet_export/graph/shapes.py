"""Shapes of inner tensors: ONNX's inference on an onnx-ir model, without carrying the weights along."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir

from edgedet_export.graph.edits import by_name
from edgedet_runtime.errors import ModelFileError

__all__ = ["forget_shapes", "infer_shapes"]

_LARGE_BYTES = 1024  # no shape arithmetic needs a constant above this; the inference copies what it is given


def forget_shapes(model: ir.Model) -> None:
    """Drop what is known of inner tensors, after an edit that changed it; `infer_shapes` finds it anew."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None


def infer_shapes(model: ir.Model) -> None:
    """Compute the shapes that ONNX's inference finds, in place; those that the file declares within are dropped.

    Raises:
        ModelFileError: The graph contradicts itself.
    """
    forget_shapes(model)
    for output in model.graph.outputs:
        output.shape = None
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), strict_mode=False, data_prop=True)
    except Exception as e:  # onnx.shape_inference.InferenceError, or RuntimeError from the C++ side
        line = (str(e).strip().splitlines() or [type(e).__name__])[0][:160]
        raise ModelFileError(f"ONNX graph: shape inference failed ({line})") from None
    values = by_name(model.graph)
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        value = values.get(info.name)
        if value is not None and value.producer() is not None:
            ir.serde.deserialize_value_info_proto(info, value)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    """Return a model in which large initializers are inputs of the same shape."""
    graph = model.graph
    small: list[ir.Value] = []
    large: list[ir.Value] = []
    for value in graph.initializers.values():
        is_large = value.const_value is not None and value.const_value.nbytes > _LARGE_BYTES
        (large if is_large else small).append(value)
    view: Any = ir.GraphView(  # onnx-ir's own protocols do not describe it
        [*graph.inputs, *large],
        graph.outputs,
        nodes=graph,
        initializers=small,
        opset_imports=graph.opset_imports,
        name=graph.name or "graph",
    )
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=ir.to_proto(view))
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, v) for domain, v in graph.opset_imports.items())
    proto.functions.extend(ir.serde.serialize_function(function) for function in model.functions.values())
    return proto
