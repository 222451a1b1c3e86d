"""Where OpenVINO's CPU plugin wants its 8-bit grids.

Only the inputs of the convolutions that run in INT8 are quantised. The plugin fuses what follows a convolution
(bias, activation, the next grid) into its kernel and keeps that part in float32 registers, so quantising a
convolution's own output would cost accuracy and buy nothing. What else reads such an input, such as a residual
addition, reads it quantised too, so that it is written once and in one byte (measured on YOLOv5n, 640 px: 1.07 times as
fast as giving it in float), unless `tight` asks otherwise.

Depthwise convolutions stay in float: measured with OpenVINO 2026.4 on AVX-512 (YOLOX-nano, 416 px), the 30 of them
take the same time in INT8 (jit_avx512_I8) as in float (brgconv_avx512_dw_f32), and a per-tensor grid at their inputs
loses the channels with small values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.quantize.config import NumberFormat
from edgedet_export.quantize.layers import ConvLayer, byte_source
from edgedet_export.quantize.plan import Grid, KeptFloat, QuantPlan
from edgedet_export.quantize.tensor_ranges import TensorRanges

__all__ = ["place_openvino"]


def place_openvino(
    graph: OnnxGraph,
    layers: tuple[ConvLayer, ...],
    ranges: TensorRanges,
    number_format: NumberFormat,
    keep_float: Mapping[str, str],
    *,
    tight: bool = False,
) -> QuantPlan:
    """Plan a file for OpenVINO.

    Args:
        graph: The FP32 graph, shapes inferred.
        layers: Its convolutions.
        ranges: Ranges of the tensors by the rule in force.
        number_format: Of the target CPU.
        keep_float: Layer id → reason, for layers that must stay in float.
        tight: Residual additions and other readers see a tensor in float, not on the grid of the convolutions that
            read it too: a little more accurate, and slower where there are many.
    """
    grids: dict[str, Grid] = {}
    quantised: list[str] = []
    kept: list[KeptFloat] = []
    for layer in layers:
        reason = keep_float.get(layer.id) or _unsuited(layer)
        if reason:
            kept.append(KeptFloat(layer.id, reason, layer.macs))
            continue
        quantised.append(layer.id)
        if layer.data not in grids:
            exact = byte_source(graph, layer.data)
            grids[layer.data] = (
                _byte_grid(number_format) if exact else Grid.spanning(ranges.of(layer.data), number_format)
            )
    everywhere = frozenset() if tight else frozenset(grids)
    return QuantPlan(grids, everywhere, tuple(quantised), (), tuple(kept), number_format)


def _unsuited(layer: ConvLayer) -> str:
    if layer.op_type == "ConvTranspose":
        return "transposed convolution"
    if layer.is_depthwise:
        return "depthwise: as fast in float, and one grid for all channels loses the small ones"
    return ""


def _byte_grid(number_format: NumberFormat) -> Grid:
    """Return the grid of whole numbers 0..255, its step one float32 above 1.

    With a step of exactly 1 OpenVINO (2026.4) drops the dequantisation as a multiplication by one, no longer
    recognises the layer as quantised, and runs it in float.
    """
    exact = Grid.of_bytes(number_format)
    return replace(exact, scale=float(np.nextafter(np.float32(1), np.float32(2))))
