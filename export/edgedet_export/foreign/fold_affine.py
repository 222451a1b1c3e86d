"""Fold what is affine per channel into the convolution beside it, in float64.

- Behind a convolution with weight W and bias b: y = a · (W * x + b) + c becomes weight a·W and bias a·b + c. This is a
  BatchNormalization with a = γ / √(σ² + ε), c = β - a·μ, or a Mul, Div, Add or Sub by a constant per channel
  (YOLOv7's ImplicitM, unfolded biases).
- Before a convolution without padding: W * (x + c) becomes W * x + ΣW·c (YOLOv7's ImplicitA).

A factor that is one number for all channels is left alone: that is a head's stride or a learned scale, which belongs
to decoding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgedet_export.onnx_graph import OnnxGraph, attribute

__all__ = ["fold_affine"]

Vector = npt.NDArray[np.float64]
_CONVOLUTIONS = ("Conv", "ConvTranspose")


def fold_affine(graph: OnnxGraph) -> dict[str, int]:
    """Fold until nothing is left to fold, in place.

    Returns:
        How many nodes of each operator type were folded.
    """
    folded: dict[str, int] = {}
    progress = True
    while progress:
        progress = False
        for node in graph.nodes_of("BatchNormalization", "Mul", "Div", "Add", "Sub"):
            if _fold_behind(graph, node) or (node.op_type == "Add" and _fold_before(graph, node)):
                folded[node.op_type] = folded.get(node.op_type, 0) + 1
                progress = True
    if folded:
        graph.remove_dead()
    return folded


def _fold_behind(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """Fold `node` into the convolution that feeds it, if it is affine per channel and reads nothing else."""
    for index, source in enumerate(node.input[:2] if node.op_type != "BatchNormalization" else node.input[:1]):
        conv = graph.producer(source)
        if conv is None or conv.op_type not in _CONVOLUTIONS or graph.only_consumer(source) is not node:
            continue
        weight = _constant_weight(graph, conv)
        if weight is None:
            continue
        groups = attribute(conv, "group", 1)
        channels = weight.shape[0] if conv.op_type == "Conv" else weight.shape[1] * groups
        affine = _affine(graph, node, index, channels)
        if affine is None:
            continue
        a, c = affine
        w = weight.astype(np.float64)
        if conv.op_type == "Conv":
            w = w * a.reshape(-1, *[1] * (w.ndim - 1))
        else:  # (in, out / groups, kh, kw): output channel o is column o % (out / groups) of its group's rows
            per_group = a.reshape(groups, -1)
            w = w.reshape(groups, -1, *w.shape[1:]) * per_group.reshape(groups, 1, -1, *[1] * (w.ndim - 2))
            w = w.reshape(weight.shape)
        bias = _bias(graph, conv, channels) * a + c
        _replace_convolution(graph, conv, [node], w, bias, conv.input[0], node.output[0])
        return True
    return False


def _fold_before(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """Fold ``x + c`` into the only reader, a convolution without padding."""
    conv = graph.only_consumer(node.output[0])
    if conv is None or conv.op_type != "Conv" or conv.input[0] != node.output[0]:
        return False
    weight = _constant_weight(graph, conv)
    padded = any(attribute(conv, "pads", [0])) or attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if weight is None or padded:
        return False
    groups = attribute(conv, "group", 1)
    for index in (0, 1):
        if graph.constant(node.input[index]) is not None:
            continue
        affine = _affine(graph, node, index, weight.shape[1] * groups)
        if affine is None:
            continue
        w = weight.astype(np.float64)
        spread = w.reshape(w.shape[0], w.shape[1], -1).sum(axis=2)
        shift = affine[1].reshape(groups, -1).repeat(w.shape[0] // groups, axis=0)
        bias = _bias(graph, conv, w.shape[0]) + (spread * shift).sum(axis=1)
        _replace_convolution(graph, conv, [node], w, bias, node.input[index], conv.output[0])
        return True
    return False


def _affine(graph: OnnxGraph, node: onnx.NodeProto, index: int, channels: int) -> tuple[Vector, Vector] | None:
    """Return (a, c) per channel such that the node computes a·x + c of its input `index`; None if it does not."""
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type == "BatchNormalization":
        parts = [graph.constant(name) for name in node.input[1:5]]
        if attribute(node, "training_mode", 0) or any(graph.consumers(name) for name in node.output[1:]):
            return None
        if any(p is None or p.size != channels for p in parts):
            return None
        gamma, beta, mean, var = (np.asarray(p, np.float64) for p in parts)
        a = gamma / np.sqrt(var + attribute(node, "epsilon", 1e-5))
        return a, beta - a * mean
    value = graph.constant(node.input[1 - index])
    if value is None or value.dtype.kind != "f" or channels == 1 or value.size != channels:
        return None
    dims = (1,) * (4 - value.ndim) + value.shape
    if len(dims) != 4 or dims[1] != channels:
        return None
    k = value.astype(np.float64).reshape(-1)
    if node.op_type == "Mul":
        return k, zeros
    if node.op_type == "Add":
        return ones, k
    if index == 1:
        return (-ones, k) if node.op_type == "Sub" else None
    return (ones, -k) if node.op_type == "Sub" else (1 / k, zeros)


def _constant_weight(graph: OnnxGraph, conv: onnx.NodeProto) -> npt.NDArray[np.generic] | None:
    """Return the weight if weight and bias are both constant."""
    if len(conv.input) > 2 and conv.input[2] and graph.constant(conv.input[2]) is None:
        return None
    return graph.constant(conv.input[1])


def _bias(graph: OnnxGraph, conv: onnx.NodeProto, channels: int) -> Vector:
    bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
    return np.zeros(channels) if bias is None else bias.astype(np.float64)


def _replace_convolution(
    graph: OnnxGraph,
    conv: onnx.NodeProto,
    others: list[onnx.NodeProto],
    weight: Vector,
    bias: Vector,
    source: str,
    result: str,
) -> None:
    names = [
        graph.add_constant(f"{result}_folded_weight", weight.astype(np.float32)),
        graph.add_constant(f"{result}_folded_bias", bias.astype(np.float32)),
    ]
    new = helper.make_node(conv.op_type, [source, *names], [result], name=conv.name)
    new.attribute.extend(conv.attribute)
    graph.replace_nodes([conv, *others], [new])
