"""Fold the input's arithmetic into the graph, so that it takes a camera's bytes: uint8, NHWC, BGR.

The network's own input is x = (p · scale - mean) / std for a pixel p, in its own channel order. Where the input is
read by convolutions only, this is absorbed without a node: a factor and a channel order go into the weights, exactly
as W' = W · scale / std with the input channels permuted. The mean goes into the bias where the convolution does not
pad; where it pads with zeros, zero means "mean colour" only after the subtraction, so a Sub stays in front. What is
left of the arithmetic, if anything else reads the input, becomes explicit nodes.

The graph then begins with Transpose (on bytes, so a quarter of the traffic) and Cast.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgedet_export.onnx_graph import OnnxGraph, attribute
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import InputSpec, ModelSpec

__all__ = ["fold_input"]

FloatArray = npt.NDArray[np.float64]


def fold_input(model: onnx.ModelProto, spec: ModelSpec) -> tuple[onnx.ModelProto, ModelSpec]:
    """Give a float32 NCHW model a uint8 NHWC BGR input.

    Args:
        model: Its one input is float32 (1, 3, H, W) as `spec.input` describes.
        spec: The model's contract.

    Returns:
        The rewritten model, and its contract.

    Raises:
        ModelFileError: The model's input is not what `spec.input` says.
    """
    old = spec.input
    if old.layout != "NCHW" or old.dtype != "float32":
        raise ModelFileError(f"input {old.name}: expected float32 NCHW, got {old.dtype} {old.layout}")
    graph = OnnxGraph(model)
    if old.name not in graph.inputs:
        raise ModelFileError(f"input: expected {old.name!r}, got {', '.join(graph.inputs)}")
    inner = graph.unique_name(f"{old.name}_nchw")
    graph.rename(old.name, inner)
    del graph.inputs[inner]
    graph.inputs[old.name] = helper.make_tensor_value_info(old.name, TensorProto.UINT8, [1, old.height, old.width, 3])
    transposed = graph.unique_name(f"{old.name}_u8_nchw")
    nodes = [
        helper.make_node("Transpose", [old.name], [transposed], name="input/transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [transposed], [inner], name="input/cast", to=TensorProto.FLOAT),
    ]
    # In pixel units: x = (p - offset) * factor, per channel of the network's order.
    factor = old.scale / np.array(old.std, np.float64)
    offset = np.array(old.mean, np.float64) / old.scale
    order = [0, 1, 2] if old.color == "BGR" else [2, 1, 0]
    readers = graph.consumers(inner)
    plain = [n for n in readers if _reads_pixels_only(graph, n, inner)]
    if len(plain) == len(readers) and not (offset.any() and any(_pads(n) for n in plain)):
        for conv in plain:
            _fold_into_conv(graph, conv, factor, offset, order)
    elif len(plain) == len(readers):
        # The padding must be the mean colour: subtract first, then the rest folds.
        nodes += _subtract(graph, inner, offset[order])
        for conv in plain:
            _fold_into_conv(graph, conv, factor, np.zeros(3), order)
    else:
        nodes += _explicit(graph, inner, factor, offset, order)
    graph.add_nodes(nodes)
    graph.remove_dead()
    folded = InputSpec(name=old.name, height=old.height, width=old.width)
    return graph.to_model(), spec.replace(input=folded)


def _reads_pixels_only(graph: OnnxGraph, node: onnx.NodeProto, tensor: str) -> bool:
    if node.op_type != "Conv" or node.input[0] != tensor or attribute(node, "group", 1) != 1:
        return False
    return all(graph.constant(name) is not None for name in node.input[1:] if name)


def _pads(node: onnx.NodeProto) -> bool:
    return attribute(node, "auto_pad", "NOTSET") != "NOTSET" or any(attribute(node, "pads", [0]))


def _fold_into_conv(
    graph: OnnxGraph, conv: onnx.NodeProto, factor: FloatArray, offset: FloatArray, order: list[int]
) -> None:
    weight = graph.constant(conv.input[1])
    assert weight is not None, "checked by _reads_pixels_only"
    scaled = weight.astype(np.float64) * factor.reshape(1, 3, 1, 1)
    if offset.any():
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        shift = -(scaled.sum(axis=(2, 3)) * offset).sum(axis=1)
        total = shift if bias is None else bias.astype(np.float64) + shift
        graph.set_input(conv, 2, graph.add_constant(f"{conv.input[1]}_folded_bias", total.astype(np.float32)))
    # Channel j of the camera's BGR is channel order[j] of the network, and back: the order is its own inverse.
    folded = np.ascontiguousarray(scaled[:, order]).astype(np.float32)
    graph.set_input(conv, 1, graph.add_constant(f"{conv.input[1]}_folded", folded))


def _subtract(graph: OnnxGraph, tensor: str, offset_bgr: FloatArray) -> list[onnx.NodeProto]:
    out = graph.unique_name(f"{tensor}_centred")
    graph.replace_uses(tensor, out)
    constant = graph.add_constant("input_offset", offset_bgr.reshape(1, 3, 1, 1).astype(np.float32))
    return [helper.make_node("Sub", [tensor, constant], [out], name="input/offset")]


def _explicit(
    graph: OnnxGraph, tensor: str, factor: FloatArray, offset: FloatArray, order: list[int]
) -> list[onnx.NodeProto]:
    last = graph.unique_name(f"{tensor}_normalised")
    graph.replace_uses(tensor, last)
    nodes: list[onnx.NodeProto] = []
    current = tensor
    if order != [0, 1, 2]:
        index = graph.add_constant("input_channel_order", np.array(order, np.int64))
        reordered = graph.unique_name(f"{tensor}_ordered")
        nodes.append(helper.make_node("Gather", [current, index], [reordered], name="input/order", axis=1))
        current = reordered
    for op, values, neutral in (("Sub", offset, 0.0), ("Mul", factor, 1.0)):
        if (values != neutral).any():
            constant = graph.add_constant(f"input_{op.lower()}", values.reshape(1, 3, 1, 1).astype(np.float32))
            out = graph.unique_name(f"{tensor}_{op.lower()}")
            nodes.append(helper.make_node(op, [current, constant], [out], name=f"input/{op.lower()}"))
            current = out
    nodes.append(helper.make_node("Identity", [current], [last], name="input/normalised"))
    return nodes
