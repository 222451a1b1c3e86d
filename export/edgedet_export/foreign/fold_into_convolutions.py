"""Fold what is affine per channel into the convolution beside it, in float64.

- Behind a convolution with weight W and bias b: y = a · (W * x + b) + c becomes weight a·W and bias a·b + c. This is a
  BatchNormalization with a = γ / √(σ² + ε), c = β - a·μ, or a Mul, Div, Add or Sub by a constant per channel
  (YOLOv7's ImplicitM, unfolded biases).
- Before a convolution without padding: W * (x + c) becomes W * x + ΣW·c (YOLOv7's ImplicitA).

A factor that is one number for all channels is left alone: that is a head's stride or a learned scale, which belongs
to decoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors, remove_dead, remove_nodes, replace_uses, set_input, stand_in
from edgedet_export.graph.values import Array, attribute, constant, input_at, only_reader
from edgedet_export.graph.walks import nodes_of
from edgedet_export.onnx_passes import OnnxPass, PassRecord
from edgedet_export.pass_report import PassReport

__all__ = ["FoldIntoConvolutions", "folded_operators"]

Vector = npt.NDArray[np.float64]
_CONVOLUTIONS = ("Conv", "ConvTranspose")


class FoldIntoConvolutions(OnnxPass):
    """Fold affine operations into the convolutions before and behind them, until nothing is left to fold."""

    name = "fold-into-convolutions"

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Fold in place."""
        graph = model.graph
        new = NewTensors(graph)
        left: dict[ir.Value, str] = {}
        progress = True
        while progress:
            progress = False
            left = {}
            for node in nodes_of(graph, "BatchNormalization", "Mul", "Div", "Add", "Sub"):
                result, op_type = node.outputs[0], node.op_type
                name = result.name or ""
                why = _fold_behind(graph, new, node)
                if why and op_type == "Add":
                    why = _fold_before(graph, new, node) and why
                if not why:
                    record.change(name, f"{op_type} → the weights of a convolution")
                    progress = True
                elif op_type == "BatchNormalization":
                    left[result] = why
        for value, why in left.items():
            record.decline(value, why)
        if record.changed:
            remove_dead(graph)


def folded_operators(report: PassReport) -> Mapping[str, int]:
    """Return how many nodes of each operator type were folded, in the order in which they first were."""
    return dict(Counter(change.what.partition(" ")[0] for change in report.changed))


def _fold_behind(graph: ir.Graph, new: NewTensors, node: ir.Node) -> str:
    """Fold `node` into the convolution that feeds it; return why not, or nothing if it was folded."""
    why = "no convolution feeds it"
    for index, source in enumerate(node.inputs[:1] if node.op_type == "BatchNormalization" else node.inputs[:2]):
        conv = None if source is None else source.producer()
        if source is None or conv is None or conv.op_type not in _CONVOLUTIONS:
            continue
        if only_reader(source) is not node:
            why = "the convolution's output is read elsewhere"
            continue
        weight = _constant_weight(conv)
        if weight is None:
            why = "the convolution's weights are not constant"
            continue
        groups = attribute(conv, "group", 1)
        channels = weight.shape[0] if conv.op_type == "Conv" else weight.shape[1] * groups
        affine = _affine(node, index, channels)
        if affine is None:
            why = "it is not affine per channel with constants"
            continue
        a, c = affine
        w = weight.astype(np.float64)
        if conv.op_type == "Conv":
            w = w * a.reshape(-1, *[1] * (w.ndim - 1))
        else:  # (in, out / groups, kh, kw): output channel o is column o % (out / groups) of its group's rows
            per_group = a.reshape(groups, -1)
            w = w.reshape(groups, -1, *w.shape[1:]) * per_group.reshape(groups, 1, -1, *[1] * (w.ndim - 2))
            w = w.reshape(weight.shape)
        _set_weights(new, conv, w, _bias(conv, channels) * a + c, node.outputs[0].name or "")
        stand_in(node.outputs[0], source)
        remove_nodes(graph, [node])
        return ""
    return why


def _fold_before(graph: ir.Graph, new: NewTensors, node: ir.Node) -> str:
    """Fold ``x + c`` into the only reader, a convolution without padding; return as `_fold_behind`."""
    conv = only_reader(node.outputs[0])
    if conv is None or conv.op_type != "Conv" or conv.inputs[0] is not node.outputs[0]:
        return "no convolution alone reads it"
    weight = _constant_weight(conv)
    padded = any(attribute(conv, "pads", [0])) or attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if weight is None or padded:
        return "the convolution pads, or its weights are not constant"
    groups = attribute(conv, "group", 1)
    for index in (0, 1):
        source = node.inputs[index]
        if source is None or constant(source) is not None:
            continue
        affine = _affine(node, index, weight.shape[1] * groups)
        if affine is None:
            continue
        w = weight.astype(np.float64)
        spread = w.reshape(w.shape[0], w.shape[1], -1).sum(axis=2)
        shift = affine[1].reshape(groups, -1).repeat(w.shape[0] // groups, axis=0)
        bias = _bias(conv, w.shape[0]) + (spread * shift).sum(axis=1)
        _set_weights(new, conv, w, bias, conv.outputs[0].name or "")
        replace_uses(node.outputs[0], source)
        remove_nodes(graph, [node])
        return ""
    return "it adds no constant per channel"


def _affine(node: ir.Node, index: int, channels: int) -> tuple[Vector, Vector] | None:
    """Return (a, c) per channel such that the node computes a·x + c of its input `index`; None if it does not."""
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type == "BatchNormalization":
        parts = [constant(value) for value in node.inputs[1:5]]
        if attribute(node, "training_mode", 0) or any(value.uses() for value in node.outputs[1:]):
            return None
        if any(p is None or p.size != channels for p in parts):
            return None
        gamma, beta, mean, var = (np.asarray(p, np.float64) for p in parts)
        a = gamma / np.sqrt(var + attribute(node, "epsilon", 1e-5))
        return a, beta - a * mean
    value = constant(node.inputs[1 - index])
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


def _constant_weight(conv: ir.Node) -> Array | None:
    """Return the weight if weight and bias are both constant."""
    bias = input_at(conv, 2)
    if bias is not None and constant(bias) is None:
        return None
    return constant(conv.inputs[1])


def _bias(conv: ir.Node, channels: int) -> Vector:
    bias = constant(input_at(conv, 2))
    return np.zeros(channels) if bias is None else bias.astype(np.float64)


def _set_weights(new: NewTensors, conv: ir.Node, weight: Vector, bias: Vector, result: str) -> None:
    set_input(conv, 1, new.constant(f"{result}_folded_weight", weight.astype(np.float32)))
    set_input(conv, 2, new.constant(f"{result}_folded_bias", bias.astype(np.float32)))
