"""Write a plan into a graph: QuantizeLinear and DequantizeLinear pairs (QDQ) around what runs in INT8.

Weights are symmetric, one scale per output channel, and stored as int8. A bias that the
kernel adds to the sum of products (onnxruntime's QLinearConv) is int32 on the grid input_scale * weight_scale; one that
is added after that (OpenVINO) stays float32. The plan says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.quantize.integer_islands import MICROSOFT, repeat_factors, repeated_codes
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.plan import Grid, QuantPlan

__all__ = ["apply_plan", "quantize_weight"]

_OPSET = 13  # first with scales per channel
_BIAS_LIMIT = 2.0**30


def quantize_weight(
    weight: npt.NDArray[np.float32], limit: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 weights and float32 scales, one per output channel (axis 0)."""
    flat = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    scales = np.maximum(flat / limit, 1e-12).astype(np.float32)
    codes = np.round(weight / scales.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(codes, -limit, limit).astype(np.int8), scales


def apply_plan(
    model: onnx.ModelProto,
    plan: QuantPlan,
    layers: tuple[ConvLayer, ...],
    biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> onnx.ModelProto:
    """Return a quantized copy of a model.

    Args:
        model: FP32.
        plan: What to quantize.
        layers: The model's convolutions.
        biases: Layer id → float32 biases to use instead of the model's own.
    """
    return _Writer(model, plan, layers, biases or {}).write()


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        plan: QuantPlan,
        layers: tuple[ConvLayer, ...],
        biases: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        self._graph = OnnxGraph(model)
        self._plan = plan
        self._layers = {layer.id: layer for layer in layers}
        self._biases = biases
        self._new: list[onnx.NodeProto] = []
        self._values: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        graph = self._graph
        nodes = {name: node for node in graph.nodes for name in node.output}
        for tensor in self._plan.grids:
            self._quantize(tensor)
        for node in list(graph.nodes):
            for index, name in enumerate(node.input):
                if name in self._plan.everywhere:
                    graph.set_input(node, index, self._values[name])
        for layer_id in self._plan.layers:
            node = nodes[layer_id]
            if layer_id in self._plan.integer_products:
                graph.remove_nodes([node])
                self._product(self._layers[layer_id])
            else:
                self._layer(node, self._layers[layer_id])
        graph.add_nodes(self._new)
        graph.remove_dead()
        return _finish(graph.to_model(), bool(self._plan.integer_products))

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self._graph.set_constant(name, value)
        return name

    def _grid(self, name: str, grid: Grid) -> list[str]:
        zero = np.array(grid.zero_point, np.int8 if grid.signed else np.uint8)
        return [
            self._constant(f"{name}/scale", np.array(grid.scale, np.float32)),
            self._constant(f"{name}/zero", zero),
        ]

    def _quantize(self, tensor: str) -> None:
        """Make the tensor's codes, and its values on the grid."""
        grid = self._plan.grids[tensor]
        parameters = self._grid(f"{tensor}/q", grid)
        codes = self._codes(tensor)
        repeated = self._repeated(tensor, codes)
        if repeated:
            self._new += repeated
        elif codes == f"{tensor}/codes":
            self._add("QuantizeLinear", [tensor, *parameters], codes)
        self._values[tensor] = f"{tensor}/values"
        self._add("DequantizeLinear", [codes, *parameters], self._values[tensor])

    def _codes(self, tensor: str) -> str:
        """Return the name of the tensor's codes; a tensor cast from bytes has them already."""
        maker = self._graph.producer(tensor)
        if self._plan.grids[tensor].is_byte and maker is not None and maker.op_type == "Cast":
            return str(maker.input[0])
        return f"{tensor}/codes"

    def _repeated(self, tensor: str, codes: str) -> list[onnx.NodeProto]:
        """Copy codes where a node would resize them, if both sides are on one grid."""
        maker = self._graph.producer(tensor)
        factors = repeat_factors(self._graph, maker)
        if not self._plan.copied_upsampling or maker is None or factors is None:
            return []
        source = str(maker.input[0])
        if not {source, tensor} <= self._plan.everywhere or self._plan.grids[source] != self._plan.grids[tensor]:
            return []
        shape = self._graph.shape(source)
        assert shape is not None, "checked by repeat_factors"
        return repeated_codes(self._graph, self._codes(source), tuple(d or 1 for d in shape), factors, codes)

    def _add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._new.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))

    def _numbers(self, layer: ConvLayer) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        weight = self._graph.constant(layer.weight)
        bias = self._biases.get(layer.id)
        if bias is None and layer.bias is not None:
            bias = self._graph.constant(layer.bias)
        assert weight is not None, "a ConvLayer has constant weights"
        return weight, bias

    def _layer(self, node: onnx.NodeProto, layer: ConvLayer) -> None:
        weight, bias = self._numbers(layer)
        scale = self._plan.grids[layer.data].scale
        codes, scales = quantize_weight(weight, self._plan.number_format.weight_limit)
        if bias is not None and self._plan.bias == "int32":
            # An all but dead channel next to a normal bias: a coarser weight scale keeps the bias within 32 bits.
            floor = (np.abs(bias.astype(np.float64)) / (_BIAS_LIMIT * scale)).astype(np.float32)
            if (floor > scales).any():
                scales = np.maximum(scales, floor)
                codes = np.round(weight / scales.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        name = f"{layer.id}/w"
        inputs = [self._constant(f"{name}/codes", codes), self._constant(f"{name}/scale", scales)]
        inputs.append(self._constant(f"{name}/zero", np.zeros(len(scales), np.int8)))
        self._add("DequantizeLinear", inputs, f"{name}/values", axis=0)
        self._graph.set_input(node, 0, self._values[layer.data])
        self._graph.set_input(node, 1, f"{name}/values")
        if bias is None:
            return
        if self._plan.bias == "float32":
            self._graph.set_input(node, 2, self._constant(f"{layer.id}/b", bias.astype(np.float32)))
            return
        steps = (scales * np.float32(scale)).astype(np.float32)
        name = f"{layer.id}/b"
        inputs = [
            self._constant(f"{name}/codes", np.round(bias / steps.astype(np.float64)).astype(np.int32)),
            self._constant(f"{name}/scale", steps),
            self._constant(f"{name}/zero", np.zeros(len(steps), np.int32)),
        ]
        self._add("DequantizeLinear", inputs, f"{name}/values", axis=0)
        self._graph.set_input(node, 2, f"{name}/values")

    def _product(self, layer: ConvLayer) -> None:
        """Write a 1x1 convolution as an integer matrix product, channels last, with float output."""
        weight, bias = self._numbers(layer)
        codes, scales = quantize_weight(weight, self._plan.number_format.weight_limit)
        name = f"{layer.id}/w"
        last = f"{layer.data}/codes_channels_last"
        if not any(last in n.output for n in self._new):
            self._add("Transpose", [self._codes(layer.data)], last, perm=[0, 2, 3, 1])
        inputs = [
            last,
            self._constant(f"{name}/codes", np.ascontiguousarray(codes.reshape(len(codes), -1).T)),
            f"{layer.data}/q/scale",
            self._constant(f"{name}/scale", scales),
            f"{layer.data}/q/zero",
            self._constant(f"{name}/zero", np.zeros(len(scales), np.int8)),
        ]
        if bias is not None:
            inputs.append(self._constant(f"{layer.id}/b", bias.astype(np.float32)))
        product = f"{layer.id}/channels_last"
        self._add("MatMulIntegerToFloat", inputs, product, domain=MICROSOFT)
        self._add("Transpose", [product], layer.id, perm=[0, 3, 1, 2])


def _finish(model: onnx.ModelProto, microsoft: bool) -> onnx.ModelProto:
    """Declare the operator sets that the new nodes need."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, _OPSET)
    if microsoft and all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    model.ir_version = max(model.ir_version, 7)
    return model
