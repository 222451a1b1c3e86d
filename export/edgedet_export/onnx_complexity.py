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

from edgedet_export.onnx_graph import OnnxGraph
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
    graph = OnnxGraph(model)
    graph.infer_shapes()
    params: dict[str, int] = {}
    macs = moved = 0
    for node in graph.nodes_of(*_COUNTED):
        names = [name for name in (*node.input, *node.output) if name]
        sizes = {name: _size(graph, name) for name in names}
        known = {name: size for name, size in sizes.items() if size is not None}
        if len(known) < len(sizes):
            return None
        if node.op_type not in _WITH_WEIGHTS:  # limits and scales are no data
            names = [node.input[0], *node.output]
        elif graph.constant(node.input[1]) is not None:
            params |= {name: known[name] for name in node.input[1:] if name and graph.constant(name) is not None}
        macs += _operations(graph, node, known)
        moved += _BYTES * sum(known[name] for name in names)
    statistics = {name for node in graph.nodes_of("BatchNormalization") for name in node.input[3:5]}
    learned = sum(size for name, size in params.items() if name not in statistics)
    return Complexity(learned, macs, 2e-9 * macs, moved)


def _size(graph: OnnxGraph, name: str) -> int | None:
    dims = graph.shape(name)
    known = [d for d in dims or () if d is not None]
    return None if dims is None or len(known) < len(dims) else math.prod(known)


def _operations(graph: OnnxGraph, node: onnx.NodeProto, sizes: Mapping[str, int]) -> int:
    """Count a node's operations, nearly all of them multiply-accumulates."""
    read, made = sizes[node.input[0]], sizes[node.output[0]]
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        weights = graph.shape(node.input[1]) or ()
        if node.op_type in ("Gemm", "MatMul"):
            return made * (read // max(1, _rows(graph, node)))
        per_place = sizes[node.input[1]] // (weights[0] or 1)
        return (made if node.op_type == "Conv" else read) * per_place
    if node.op_type == "BatchNormalization":
        return _NORM_OPS * read
    if node.op_type == "GlobalAveragePool":
        return read
    return made if node.op_type in ("AveragePool", "Resize", "Upsample") else 0


def _rows(graph: OnnxGraph, node: onnx.NodeProto) -> int:
    """Return how many vectors a matrix product maps."""
    dims = graph.shape(node.input[0]) or ()
    return math.prod(d or 1 for d in dims[:-1])
