"""OpenVINO as a target: an IR whose 8-bit grids are where its CPU plugin wants them.

Only the inputs of the convolutions that run in INT8 are quantized. The plugin fuses what follows a convolution
(bias, activation, the next grid) into its kernel and keeps that part in float32 registers, so quantizing a
convolution's own output would cost accuracy and buy nothing. What else reads such an input, such as a residual
addition, reads it quantized too, so that it is written once and in one byte (measured on YOLOv5n, 640 px: 1.07 times as
fast as giving it in float), unless float residuals are asked for.

Depthwise convolutions stay in float: measured with OpenVINO 2026.4 on AVX-512 (YOLOX-nano, 416 px), the 30 of them
take the same time in INT8 (jit_avx512_I8) as in float (brgconv_avx512_dw_f32), and a per-tensor grid at their inputs
loses the channels with small values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgedet_export.config import Format
from edgedet_export.graph.edits import by_name
from edgedet_export.quantize.audit import ExecutedPrecision, audit_file
from edgedet_export.quantize.equalize import Form
from edgedet_export.quantize.layers import ConvLayer, byte_source
from edgedet_export.quantize.number_format import NUMBER_FORMATS, NumberFormat
from edgedet_export.quantize.plan import Grid, KeptFloat, QuantPlan
from edgedet_export.quantize.runner import Runner, Tensor
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_export.to_openvino import to_openvino
from edgedet_runtime.engines import EngineName
from edgedet_runtime.engines.openvino_engine import compile_on_cpu
from edgedet_runtime.spec import ModelSpec

__all__ = ["OpenVinoTarget"]


class OpenVinoTarget:
    """See `Target`."""

    name: EngineName = "openvino"
    formats: tuple[Format, ...] = ("openvino",)
    file = "openvino/model.int8.xml"
    number_formats = NUMBER_FORMATS
    free_forms: tuple[Form, ...] = ("smoothed", "equalized")  # multiplications run within a convolution's kernel
    costly_forms: tuple[Form, ...] = ()
    float_residuals = True

    def prepare(self, model: ir.Model) -> ir.Model:
        """Return the model itself: the plugin rewrites what it needs."""
        return model

    def place(
        self,
        graph: ir.Graph,
        layers: tuple[ConvLayer, ...],
        ranges: TensorRanges,
        number_format: NumberFormat,
        keep_float: Mapping[str, str],
        *,
        float_residuals: bool = False,
    ) -> QuantPlan:
        """Quantize the inputs of convolutions; depthwise and transposed ones stay in float."""
        values = by_name(graph)
        grids: dict[str, Grid] = {}
        quantized: list[str] = []
        kept: list[KeptFloat] = []
        for layer in layers:
            reason = keep_float.get(layer.id) or _unsuited(layer)
            if reason:
                kept.append(KeptFloat(layer.id, reason, layer.macs))
                continue
            quantized.append(layer.id)
            if layer.data not in grids:
                exact = byte_source(values[layer.data])
                spanning = Grid.spanning(ranges.choose(layer.data), number_format) if not exact else None
                grids[layer.data] = spanning or _byte_grid(number_format)
        return QuantPlan(
            grids=grids,
            everywhere=frozenset() if float_residuals else frozenset(grids),
            layers=tuple(quantized),
            integer_products=(),
            kept=tuple(kept),
            number_format=number_format,
            bias="float32",
            copied_upsampling=False,
        )

    def float_front(self, layers: tuple[ConvLayer, ...]) -> Mapping[str, str]:
        """Return none: the plugin's INT8 stem is the faster one."""
        return {}

    def open_session(self, model: onnx.ModelProto, *, threads: int) -> Runner:
        """Compile a model for the CPU, with the settings of the runtime's engine."""
        compiled = compile_on_cpu(model.SerializeToString(), threads, what="the quantized model")
        request = compiled.create_infer_request()
        outputs = [o.name for o in model.graph.output]

        def run(tensor: Tensor) -> dict[str, npt.NDArray[np.float32]]:
            request.infer([tensor])
            return {name: np.array(request.get_tensor(name).data) for name in outputs}

        return run

    def write(self, path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
        """Convert to IR and write its two files."""
        path.parent.mkdir(parents=True, exist_ok=True)
        to_openvino(model, spec, path)

    def audit(self, path: Path, spec: ModelSpec, tensor: npt.NDArray[Any], *, threads: int) -> ExecutedPrecision:
        """Profile an IR."""
        return audit_file(self.name, path, tensor, threads=threads)


def _unsuited(layer: ConvLayer) -> str:
    if layer.op_type == "ConvTranspose":
        return "transposed convolution"
    if layer.is_depthwise:
        return "depthwise: as fast in float, and one grid for all channels loses the small ones"
    return ""


def _byte_grid(number_format: NumberFormat) -> Grid:
    """Return the grid of whole numbers 0..255, its step one float32 above 1.

    With a step of exactly 1 OpenVINO (2026.4) drops the dequantization as a multiplication by one, no longer
    recognizes the layer as quantized, and runs it in float.
    """
    exact = Grid.exact_bytes(number_format)
    return replace(exact, scale=float(np.nextafter(np.float32(1), np.float32(2))))
