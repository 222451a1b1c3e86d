"""A part of a graph as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgedet_export.graph.edits import by_name
from edgedet_export.graph.walks import reads, walk_up
from edgedet_runtime.errors import ModelFileError

__all__ = ["extract"]


def extract(model: ir.Model, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> ir.Model:
    """Return the part of a graph between some tensors as a model of its own; the model stays as it is.

    Args:
        model: In topological order.
        inputs: New float32 graph inputs: names of tensors, and the shapes that they get. What makes them is left out;
            graph inputs that the part still reads stay inputs behind them.
        outputs: Names of the tensors to give out.

    Raises:
        ModelFileError: The graph has no tensor of such a name.
    """
    graph = model.graph
    values = by_name(graph)
    missing = next((name for name in (*inputs, *outputs) if name not in values), None)
    if missing is not None:
        raise ModelFileError(f"tensor {missing}: expected one of the graph's, got none of that name")
    given = {values[name]: None for name in inputs}
    makers = {value.producer() for value in given} - {None}
    kept = set(walk_up([values[name] for name in outputs], stop=makers.__contains__)) - makers
    nodes = [node for node in graph if node in kept]
    read = {value for node in nodes for value in reads(node)} | {values[name] for name in outputs}
    view = ir.GraphView(
        [*given, *(value for value in graph.inputs if value in read and value not in given)],
        [values[name] for name in outputs],
        nodes=nodes,
        initializers=[value for value in graph.initializers.values() if value in read and value not in given],
        opset_imports=dict(graph.opset_imports),
        name=graph.name or "part",
    )
    part = ir.Model(view.clone(), ir_version=model.ir_version, functions=list(model.functions.values()))
    for value, shape in zip(part.graph.inputs, inputs.values(), strict=False):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return part
