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
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors, by_name, remove_dead, set_input, stand_in
from edgedet_export.graph.values import constant, known_dims, name_of, opset
from edgedet_export.onnx_passes import OnnxPass, PassRecord, RequirementError
from edgedet_export.quantize.integer_islands import MICROSOFT, repeat_factors, repeated_codes
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.plan import Grid, QuantPlan

__all__ = ["WritePlan", "apply_plan", "quantize_weight"]

_OPSET, _IR_VERSION = 13, 7  # first with scales per channel
_BIAS_LIMIT = 2.0**30
_LEAST_SCALE = 1e-12


def quantize_weight(
    weight: npt.NDArray[np.float32], limit: int, *, least: npt.ArrayLike = _LEAST_SCALE
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 weights and float32 scales, one per output channel (axis 0).

    Args:
        weight: As ONNX stores it.
        limit: Largest magnitude of a code.
        least: Smallest scale, of all channels or of each.
    """
    rest = tuple(range(1, weight.ndim))
    flat = np.abs(weight).max(axis=rest)
    scales = np.maximum(np.maximum(flat / limit, least), _LEAST_SCALE).astype(np.float32)
    codes = np.round(weight / np.expand_dims(scales, rest))
    return np.clip(codes, -limit, limit).astype(np.int8), scales


def apply_plan(
    model: ir.Model,
    plan: QuantPlan,
    layers: tuple[ConvLayer, ...],
    biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> ir.Model:
    """Return a quantized copy of a model.

    Args:
        model: FP32.
        plan: What to quantize.
        layers: The model's convolutions.
        biases: Layer id → float32 biases to use instead of the model's own.
    """
    return WritePlan(plan, layers, biases)(model.clone()).model


class WritePlan(OnnxPass):
    """Write a plan into an FP32 model; the layers that it keeps in float are declined, for the plan's reasons."""

    name = "write-plan"

    def __init__(
        self,
        plan: QuantPlan,
        layers: tuple[ConvLayer, ...],
        biases: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> None:
        """Take the arguments of `apply_plan`."""
        self._plan = plan
        self._layers = layers
        self._biases = biases or {}

    def requires(self, model: ir.Model) -> None:
        """Refuse a model that lacks a tensor of the plan."""
        values = by_name(model.graph)
        missing = next((name for name in (*self._plan.grids, *self._plan.layers) if name not in values), None)
        if missing is not None:
            raise RequirementError(f"INT8 plan: expected tensor {missing} in the model, got none")

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Write in place, and declare the operator sets that the new nodes need."""
        graph = model.graph
        _Writer(graph, self._plan, self._layers, self._biases).write()
        graph.sort()
        remove_dead(graph)
        graph.opset_imports["ai.onnx" if "ai.onnx" in graph.opset_imports else ""] = max(opset(graph), _OPSET)
        if self._plan.integer_products:
            graph.opset_imports.setdefault(MICROSOFT, 1)
        model.ir_version = max(model.ir_version, _IR_VERSION)
        for layer_id in self._plan.layers:
            record.change(layer_id, "float32 → INT8")
        for kept in self._plan.kept:
            record.decline(kept.layer, kept.reason)


class _Writer:
    """Makes the nodes of one plan; `values` of a tensor are its numbers on the grid, `codes` what is stored of them."""

    def __init__(
        self,
        graph: ir.Graph,
        plan: QuantPlan,
        layers: tuple[ConvLayer, ...],
        biases: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        self._graph = graph
        self._plan = plan
        self._layers = {layer.id: layer for layer in layers}
        self._biases = biases
        self._tensors = by_name(graph)
        self._makers = {name: self._tensors[name].producer() for name in plan.layers}
        self._new = NewTensors(graph)
        self._nodes: list[ir.Node] = []
        self._codes: dict[str, ir.Value] = {}
        self._grids: dict[str, tuple[ir.Value, ir.Value]] = {}
        self._values: dict[str, ir.Value] = {}
        self._last: dict[str, ir.Value] = {}

    def write(self) -> None:
        given = list(self._graph)
        for tensor in self._plan.grids:
            self._quantize(tensor)
        for node in given:
            for index, value in enumerate(node.inputs):
                if value is not None and value.name in self._plan.everywhere:
                    node.replace_input_with(index, self._values[value.name])
        for layer_id in self._plan.layers:
            maker = self._makers[layer_id]
            assert maker is not None, "a layer's id is its output"
            write = self._product if layer_id in self._plan.integer_products else self._layer
            write(maker, self._layers[layer_id])
        self._graph.extend(self._nodes)

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> ir.Value:
        return self._new.constant(name, value)

    def _grid(self, tensor: str, grid: Grid) -> tuple[ir.Value, ir.Value]:
        """Return the scale and the zero point of a tensor's grid."""
        zero = np.array(grid.zero_point, np.int8 if grid.signed else np.uint8)
        self._grids[tensor] = (
            self._constant(f"{tensor}/q/scale", np.array(grid.scale, np.float32)),
            self._constant(f"{tensor}/q/zero", zero),
        )
        return self._grids[tensor]

    def _quantize(self, tensor: str) -> None:
        """Make the tensor's codes, and its values on the grid."""
        parameters = self._grid(tensor, self._plan.grids[tensor])
        codes = self._codes_of(tensor)
        repeated = self._repeated(tensor, codes)
        if repeated:
            self._nodes += repeated
        elif codes.name == f"{tensor}/codes":
            self._add("QuantizeLinear", [self._tensors[tensor], *parameters], codes)
        self._values[tensor] = self._new.value(f"{tensor}/values")
        self._add("DequantizeLinear", [codes, *parameters], self._values[tensor])

    def _codes_of(self, tensor: str) -> ir.Value:
        """Return the tensor's codes; a tensor cast from bytes has them already."""
        if tensor not in self._codes:
            maker = self._tensors[tensor].producer()
            if maker is not None and maker.op_type == "Cast" and self._plan.grids[tensor].is_byte:
                source = maker.inputs[0]
                assert source is not None, "a cast reads something"
                self._codes[tensor] = source
            else:
                self._codes[tensor] = self._new.value(f"{tensor}/codes")
        return self._codes[tensor]

    def _repeated(self, tensor: str, codes: ir.Value) -> list[ir.Node]:
        """Copy codes where a node would resize them, if both sides are on one grid."""
        maker = self._tensors[tensor].producer()
        factors = repeat_factors(maker)
        if not self._plan.copied_upsampling or factors is None:
            return []
        assert maker is not None, "it repeats something"
        source = maker.inputs[0]
        shape = known_dims(source)
        assert source is not None, "it repeats something"
        assert shape is not None, "a whole number of times"
        pair = {name_of(source), tensor}
        if not pair <= self._plan.everywhere or self._plan.grids[name_of(source)] != self._plan.grids[tensor]:
            return []
        return repeated_codes(self._new, self._codes_of(name_of(source)), shape, factors, codes)

    def _add(self, op_type: str, inputs: list[ir.Value], output: ir.Value, domain: str = "", **attributes: Any) -> None:
        self._nodes.append(ir.node(op_type, inputs, attributes, domain=domain, outputs=[output], name=output.name))

    def _numbers(self, layer: ConvLayer) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        weight = constant(self._tensors[layer.weight])
        bias = self._biases.get(layer.id)
        if bias is None and layer.bias is not None:
            bias = constant(self._tensors[layer.bias])
        assert weight is not None, "a ConvLayer has constant weights"
        return weight, bias

    def _layer(self, node: ir.Node, layer: ConvLayer) -> None:
        weight, bias = self._numbers(layer)
        scale = self._plan.grids[layer.data].scale
        # An all but dead channel next to a normal bias: a coarser weight scale keeps the bias within 32 bits.
        as_integers = bias is not None and self._plan.bias == "int32"
        least = np.abs(np.asarray(bias, np.float64)) / (_BIAS_LIMIT * scale) if as_integers else _LEAST_SCALE
        codes, scales = quantize_weight(weight, self._plan.number_format.weight_limit, least=least)
        name = f"{layer.id}/w"
        inputs = [self._constant(f"{name}/codes", codes), self._constant(f"{name}/scale", scales)]
        inputs.append(self._constant(f"{name}/zero", np.zeros(len(scales), np.int8)))
        weights = self._new.value(f"{name}/values")
        self._add("DequantizeLinear", inputs, weights, axis=0)
        set_input(node, 0, self._values[layer.data])
        set_input(node, 1, weights)
        if bias is None:
            return
        if self._plan.bias == "float32":
            set_input(node, 2, self._constant(f"{layer.id}/b", bias.astype(np.float32)))
            return
        steps = (scales * np.float32(scale)).astype(np.float32)
        name = f"{layer.id}/b"
        inputs = [
            self._constant(f"{name}/codes", np.round(bias / steps.astype(np.float64)).astype(np.int32)),
            self._constant(f"{name}/scale", steps),
            self._constant(f"{name}/zero", np.zeros(len(steps), np.int32)),
        ]
        biases = self._new.value(f"{name}/values")
        self._add("DequantizeLinear", inputs, biases, axis=0)
        set_input(node, 2, biases)

    def _product(self, node: ir.Node, layer: ConvLayer) -> None:
        """Write a 1x1 convolution as an integer matrix product, channels last, with float output."""
        weight, bias = self._numbers(layer)
        codes, scales = quantize_weight(weight, self._plan.number_format.weight_limit)
        name = f"{layer.id}/w"
        scale, zero = self._grids[layer.data]
        inputs = [
            self._channels_last(layer.data),
            self._constant(f"{name}/codes", np.ascontiguousarray(codes.squeeze((2, 3)).T)),
            scale,
            self._constant(f"{name}/scale", scales),
            zero,
            self._constant(f"{name}/zero", np.zeros(len(scales), np.int8)),
        ]
        if bias is not None:
            inputs.append(self._constant(f"{layer.id}/b", bias.astype(np.float32)))
        product = self._new.value(f"{layer.id}/channels_last")
        self._add("MatMulIntegerToFloat", inputs, product, domain=MICROSOFT)
        made = node.outputs[0]
        result = ir.Value(name=made.name, type=made.type, shape=made.shape)
        self._add("Transpose", [product], result, perm=[0, 3, 1, 2])
        stand_in(made, result)

    def _channels_last(self, tensor: str) -> ir.Value:
        """Return a tensor's codes, channels last."""
        if tensor not in self._last:
            self._last[tensor] = self._new.value(f"{tensor}/codes_channels_last")
            self._add("Transpose", [self._codes_of(tensor)], self._last[tensor], perm=[0, 2, 3, 1])
        return self._last[tensor]
