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
import onnx_ir as ir

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import NewTensors, prepend, remove_dead, replace_uses, set_input
from edgedet_export.graph.values import attribute, constant, input_at
from edgedet_export.onnx_passes import OnnxPass, PassRecord, RequirementError
from edgedet_runtime.spec import InputSpec, ModelSpec

__all__ = ["FoldInput", "fold_input"]

FloatArray = npt.NDArray[np.float64]


def fold_input(model: onnx.ModelProto, spec: ModelSpec) -> tuple[onnx.ModelProto, ModelSpec]:
    """Give a float32 NCHW model a uint8 NHWC BGR input.

    Args:
        model: Its one input is float32 (1, 3, H, W) as `spec.input` describes; not changed.
        spec: The model's contract.

    Returns:
        The rewritten model, and its contract.

    Raises:
        ModelFileError: The model's input is not what `spec.input` says.
    """
    result = FoldInput(spec.input)(from_proto(model))
    old = spec.input
    return to_proto(result.model), spec.replace(input=InputSpec(name=old.name, height=old.height, width=old.width))


class FoldInput(OnnxPass):
    """Make a float32 NCHW input uint8 NHWC BGR, its arithmetic folded into the convolutions that read it."""

    name = "fold-input"

    def __init__(self, spec: InputSpec) -> None:
        """Take what the input is now."""
        self._spec = spec

    def requires(self, model: ir.Model) -> None:
        """Refuse an input that is not the float32 NCHW one of the contract."""
        spec = self._spec
        if spec.layout != "NCHW" or spec.dtype != "float32":
            raise RequirementError(f"input {spec.name}: expected float32 NCHW, got {spec.dtype} {spec.layout}")
        names = [value.name or "" for value in model.graph.inputs]
        if spec.name not in names:
            raise RequirementError(f"input: expected {spec.name!r}, got {', '.join(names)}")

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Fold in place."""
        graph, spec = model.graph, self._spec
        new = NewTensors(graph)
        given = next(value for value in graph.inputs if value.name == spec.name)
        inner = new.value(f"{spec.name}_nchw")
        inner.type, inner.shape = given.type, given.shape
        transposed = new.value(f"{spec.name}_u8_nchw")
        replace_uses(given, inner)
        given.type = ir.TensorType(ir.DataType.UINT8)
        given.shape = ir.Shape([1, spec.height, spec.width, 3])
        nodes = [
            ir.node("Transpose", [given], {"perm": [0, 3, 1, 2]}, outputs=[transposed], name="input/transpose"),
            ir.node("Cast", [transposed], {"to": ir.DataType.FLOAT}, outputs=[inner], name="input/cast"),
        ]
        # In pixel units: x = (p - offset) * factor, per channel of the network's order.
        factor = spec.scale / np.array(spec.std, np.float64)
        offset = np.array(spec.mean, np.float64) / spec.scale
        order = [0, 1, 2] if spec.color == "BGR" else [2, 1, 0]
        readers = inner.consumers()
        others = [node for node in readers if not _reads_pixels_only(node, inner)]
        if others:
            for node in others:
                record.decline(node.outputs[0], f"{node.op_type} reads the input, not a plain convolution")
            nodes += _explicit(new, inner, factor, offset, order)
            record.change(given, "float NCHW → uint8 NHWC BGR, arithmetic as nodes")
        else:
            if offset.any() and any(_pads(node) for node in readers):
                # The padding must be the mean color: subtract first, then the rest folds.
                record.decline(given, "the mean stays a node, as a convolution pads with zeros")
                nodes += _subtract(new, inner, offset[order])
                offset = np.zeros(3)
            for conv in readers:
                _fold_into_conv(new, conv, factor, offset, order)
                record.change(conv.outputs[0], "factor and order of channels → weights")
            record.change(given, "float NCHW → uint8 NHWC BGR")
        prepend(graph, nodes)
        remove_dead(graph)


def _reads_pixels_only(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type != "Conv" or node.inputs[0] is not value or attribute(node, "group", 1) != 1:
        return False
    return all(constant(number) is not None for number in node.inputs[1:] if number is not None)


def _pads(node: ir.Node) -> bool:
    return attribute(node, "auto_pad", "NOTSET") != "NOTSET" or any(attribute(node, "pads", [0]))


def _fold_into_conv(new: NewTensors, conv: ir.Node, factor: FloatArray, offset: FloatArray, order: list[int]) -> None:
    weight, name = constant(conv.inputs[1]), conv.inputs[1].name if conv.inputs[1] is not None else ""
    assert weight is not None, "checked by _reads_pixels_only"
    scaled = weight.astype(np.float64) * factor.reshape(1, 3, 1, 1)
    if offset.any():
        bias = constant(input_at(conv, 2))
        shift = -(scaled.sum(axis=(2, 3)) * offset).sum(axis=1)
        total = shift if bias is None else bias.astype(np.float64) + shift
        set_input(conv, 2, new.constant(f"{name}_folded_bias", total.astype(np.float32)))
    # Channel j of the camera's BGR is channel order[j] of the network, and back: the order is its own inverse.
    folded = np.ascontiguousarray(scaled[:, order]).astype(np.float32)
    set_input(conv, 1, new.constant(f"{name}_folded", folded))


def _subtract(new: NewTensors, value: ir.Value, offset_bgr: FloatArray) -> list[ir.Node]:
    out = new.value(f"{value.name}_centered")
    replace_uses(value, out)
    constants = new.constant("input_offset", offset_bgr.reshape(1, 3, 1, 1).astype(np.float32))
    return [ir.node("Sub", [value, constants], outputs=[out], name="input/offset")]


def _explicit(
    new: NewTensors, value: ir.Value, factor: FloatArray, offset: FloatArray, order: list[int]
) -> list[ir.Node]:
    last = new.value(f"{value.name}_normalized")
    replace_uses(value, last)
    nodes: list[ir.Node] = []
    current = value
    if order != [0, 1, 2]:
        index = new.constant("input_channel_order", np.array(order, np.int64))
        reordered = new.value(f"{value.name}_ordered")
        nodes.append(ir.node("Gather", [current, index], {"axis": 1}, outputs=[reordered], name="input/order"))
        current = reordered
    for op, values, neutral in (("Sub", offset, 0.0), ("Mul", factor, 1.0)):
        if (values != neutral).any():
            constants = new.constant(f"input_{op.lower()}", values.reshape(1, 3, 1, 1).astype(np.float32))
            out = new.value(f"{value.name}_{op.lower()}")
            nodes.append(ir.node(op, [current, constants], outputs=[out], name=f"input/{op.lower()}"))
            current = out
    nodes.append(ir.node("Identity", [current], outputs=[last], name="input/normalized"))
    return nodes
