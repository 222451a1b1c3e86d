"""Per-layer profile of OpenVINO, from the compiled graph.

The compiled graph carries, per executed node, its time, its shapes, and the primitive that was chosen. The
primitive's name (``brgconv_avx512_f32``) is what tells the precision: the attribute ``runtimePrecision``
still says ``i8`` for a convolution whose primitive computes in float (seen with OpenVINO 2026.4).
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy.typing as npt

from edgedet_runtime.engines.model_source import ModelSource, label
from edgedet_runtime.engines.openvino_engine import compile_on_cpu
from edgedet_runtime.errors import EngineError
from edgedet_runtime.profiling.layers import Layer, convolution_macs

__all__ = ["profile_layers"]

_NOT_EXECUTED = ("Const", "Input", "Output")
_PRECISIONS = {
    "i8": "int8",
    "u8": "int8",
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i32": "int32",
    "i64": "int64",
}


def profile_layers(source: ModelSource, tensor: npt.NDArray[Any], *, threads: int, runs: int) -> tuple[Layer, ...]:
    """Profile a model file; see `edgedet_runtime.profiling.layers.profile_layers`."""
    compiled = compile_on_cpu(source, threads, profiled=True)
    try:
        request = compiled.create_infer_request()
        times: dict[str, list[float]] = {}
        for _ in range(runs + runs // 4):
            request.infer([tensor])
            for entry in request.profiling_info:
                times.setdefault(entry.node_name, []).append(entry.real_time.total_seconds() * 1e3)
        nodes = compiled.get_runtime_model().get_ordered_ops()
    except RuntimeError as e:
        raise EngineError(f"{label(source)}: OpenVINO cannot profile it: {str(e).splitlines()[0]}") from None
    layers = [_layer(node, {name: of[-runs:] for name, of in times.items()}) for node in nodes]
    return tuple(layer for layer in layers if layer is not None)


def _layer(node: Any, times: dict[str, list[float]]) -> Layer | None:
    info = node.get_rt_info()
    kind = str(info["layerType"].value)
    if kind in _NOT_EXECUTED:
        return None
    name = str(node.get_friendly_name())
    inputs = [(list(port.get_shape()), port.get_element_type().size) for port in node.inputs()]
    outputs = [(list(port.get_shape()), port.get_element_type().size) for port in node.outputs()]
    return Layer(
        name=name,
        kind=kind,
        precision=_precision(str(info["primitiveType"].value), str(info["runtimePrecision"].value)),
        time_ms=statistics.median(times.get(name, [0.0])),
        macs=_macs(kind, [shape for shape, _ in inputs], outputs[0][0]),
        bytes=sum(math.prod(shape) * size for shape, size in inputs + outputs),
    )


def _precision(primitive: str, claimed: str) -> str:
    """Read the precision at the end of a primitive's name; the claimed one only where the name holds none."""
    last = primitive.rpartition("_")[2].lower()
    known = last if last in _PRECISIONS else claimed
    return _PRECISIONS.get(known, known)


def _macs(kind: str, inputs: list[list[int]], output: list[int]) -> int:
    if kind in ("Convolution", "Deconvolution") and len(inputs) > 1:
        weights = inputs[1]
        shape = inputs[0] if kind == "Deconvolution" else output
        return convolution_macs(shape, weights, grouped=len(weights) == len(output) + 1)
    if kind in ("FullyConnected", "MatMul") and inputs:
        return math.prod(output) * inputs[0][-1]
    return 0
