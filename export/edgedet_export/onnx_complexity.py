"""What a network costs that came as ONNX: by the convention of `edgedet_models.complexity`, which counts modules.

Counted are the operations that correspond to modules there, so that a network has about the same figures on both ways
in: convolutions, matrix products with weights, normalisations that the file still holds, pools, resizing and
activations. Of SiLU, x times sigmoid(x), the sigmoid stands for both. What only joins, cuts or adds tensors is free
there and here. A file's convolutions usually have their BatchNorm folded in: its operations are fewer by that much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from edgedet_export.graph.conversion import from_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import constant, dims
from edgedet_export.graph.walks import nodes_of
from edgedet_models.complexity import Complexity

__all__ = ["count_onnx"]

_ACTIVATIONS = frozenset(
    ("Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Sigmoid", "Softplus")
)
_POOLS_AND_RESIZE = frozenset(("AveragePool", "GlobalAveragePool", "MaxPool", "Resize", "Upsample"))
_WITH_WEIGHTS = frozenset(("BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"))
_COUNTED = _ACTIVATIONS | _POOLS_AND_RESIZE | _WITH_WEIGHTS
_NORM_OPS = 2
_BYTES = 4  # float32


def count_onnx(model: onnx.ModelProto) -> Complexity | None:
    """Count what one forward pass of a float32 ONNX model costs; None where its shapes are not fixed.

    Args:
        model: With a fixed input size, its batch 1.
    """
    shaped = from_proto(model)
    infer_shapes(shaped)
    params: dict[ir.Value, int] = {}
    macs = moved = 0
    for node in nodes_of(shaped.graph, *_COUNTED):
        values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
        sizes = {value: _size(value) for value in values}
        known = {value: size for value, size in sizes.items() if size is not None}
        if len(known) < len(sizes):
            return None
        data, made, numbers = _operands(node)
        if node.op_type not in _WITH_WEIGHTS:  # limits and scales are no data
            values = [data, made, *node.outputs[1:]]
        elif constant(numbers[0]) is not None:
            params |= {value: known[value] for value in numbers if constant(value) is not None}
        macs += _operations(node, known)
        moved += _BYTES * sum(known[value] for value in values)
    norms = nodes_of(shaped.graph, "BatchNormalization")
    statistics = {value for node in norms for value in node.inputs[3:5] if value is not None}
    learned = sum(size for value, size in params.items() if value not in statistics)
    return Complexity(learned, macs, 2e-9 * macs, moved)


def _operands(node: ir.Node) -> tuple[ir.Value, ir.Value, list[ir.Value]]:
    """Return what a counted node reads, what it makes, and its further inputs."""
    data = node.inputs[0]
    assert data is not None, "the first input of these operators is required"
    return data, node.outputs[0], [value for value in node.inputs[1:] if value is not None]


def _size(value: ir.Value) -> int | None:
    shape = dims(value)
    known = [d for d in shape or () if d is not None]
    return None if shape is None or len(known) < len(shape) else math.prod(known)


def _operations(node: ir.Node, sizes: Mapping[ir.Value, int]) -> int:
    """Count a node's operations, nearly all of them multiply-accumulates."""
    data, result, numbers = _operands(node)
    read, made = sizes[data], sizes[result]
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        if node.op_type in ("Gemm", "MatMul"):
            return made * (read // max(1, math.prod(d or 1 for d in (dims(data) or ())[:-1])))
        per_place = sizes[numbers[0]] // ((dims(numbers[0]) or (1,))[0] or 1)
        return (made if node.op_type == "Conv" else read) * per_place
    if node.op_type == "BatchNormalization":
        return _NORM_OPS * read
    if node.op_type == "GlobalAveragePool":
        return read
    return made if node.op_type in ("AveragePool", "Resize", "Upsample") else 0
