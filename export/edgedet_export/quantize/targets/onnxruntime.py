"""onnxruntime as a target: QDQ ONNX, placed and prepared for the kernels of its CPU provider."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgedet_export.config import Format
from edgedet_export.graph.conversion import set_metadata
from edgedet_export.onnx_passes import run_passes
from edgedet_export.quantize.audit import ExecutedPrecision, audit_file
from edgedet_export.quantize.equalize import Form
from edgedet_export.quantize.fuse_silu import FuseSilu
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.number_format import NUMBER_FORMATS, NumberFormat
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.runner import Runner, onnx_runner
from edgedet_export.quantize.stem_to_depth import StemToDepth
from edgedet_export.quantize.targets.onnxruntime_placement import place_onnxruntime
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_runtime.engines import EngineName
from edgedet_runtime.spec import ModelSpec

__all__ = ["OnnxRuntimeTarget"]

_STEM_CHANNELS = 4
_FRONT = 2


class OnnxRuntimeTarget:
    """See `Target`."""

    name: EngineName = "onnxruntime"
    formats: tuple[Format, ...] = ("onnx",)
    file = "model.int8.onnx"
    number_formats = NUMBER_FORMATS
    free_forms: tuple[Form, ...] = ("equalized",)
    costly_forms: tuple[Form, ...] = ("smoothed",)  # a multiplication behind an activation is a pass of its own
    float_residuals = False

    def prepare(self, model: ir.Model) -> ir.Model:
        """Move the stem's pixels into channels, and write SiLU as one node."""
        return run_passes(model.clone(), [StemToDepth(), FuseSilu()]).model

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
        """Quantize whole stretches of the network, see `onnxruntime_placement`."""
        return place_onnxruntime(graph, layers, ranges, number_format, keep_float)

    def float_front(self, layers: tuple[ConvLayer, ...]) -> Mapping[str, str]:
        """Return the stem and the layer behind it, where the stem could not be computed on cells.

        With three or four input channels the stem's INT8 kernel is slower than the float one (measured on YOLOv5n,
        640 px: 7.4 ms against 3.0 ms), and on large maps SiLU on bytes costs what the convolution gains.
        """
        stem = layers[0]
        if stem.groups > 1 or stem.weight_shape[1] > _STEM_CHANNELS:
            return {}
        reason = "large map with few channels: onnxruntime's float kernels are faster"
        return {layer.id: reason for layer in layers[:_FRONT]}

    def open_session(self, model: onnx.ModelProto, *, threads: int) -> Runner:
        """Load a model into onnxruntime."""
        return onnx_runner(model, threads=threads)

    def write(self, path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
        """Write an ONNX file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        written = onnx.ModelProto()
        written.CopyFrom(model)
        set_metadata(written, "edgedet", spec.to_json())
        onnx.save(written, str(path))

    def audit(self, path: Path, spec: ModelSpec, tensor: npt.NDArray[Any], *, threads: int) -> ExecutedPrecision:
        """Profile an ONNX file."""
        return audit_file(self.name, path, tensor, threads=threads)
