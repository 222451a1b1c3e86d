"""Layers as the engine really runs them: time, executed precision, multiply-accumulates and bytes moved.

An "INT8" file says what was asked for. What runs is decided when the engine compiles it: operations without
an integer kernel fall back to float, silently. So precision is read from the kernels that were executed, not
from the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime.choices import EngineName
from edgedet_runtime.engines.model_source import ModelSource
from edgedet_runtime.errors import EngineError

__all__ = ["LAYER_ENGINES", "Layer", "convolution_macs", "int8_share", "profile_layers"]

LAYER_ENGINES: Mapping[str, str] = {
    "onnxruntime": "edgedet_runtime.profiling.layers_onnxruntime",
    "openvino": "edgedet_runtime.profiling.layers_openvino",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One executed operation.

    Attributes:
        name: As the engine names it.
        kind: Operation type, such as ``Conv``.
        precision: What its kernel computes in, such as ``fp32``, ``int8``, ``bf16``.
        time_ms: Median over the runs.
        macs: Multiply-accumulates; 0 for all but convolutions and matrix products.
        bytes: Inputs, weights and outputs, each counted once.
    """

    name: str
    kind: str
    precision: str
    time_ms: float
    macs: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: floating-point or integer operations (2 per MAC) per byte moved."""
        return 2 * self.macs / self.bytes if self.bytes else 0.0


def convolution_macs(shape: Sequence[int], weight_shape: Sequence[int], *, grouped: bool = False) -> int:
    """Count the multiply-accumulates of a convolution.

    Each value of the output gathers one kernel. In a transposed convolution each value of the *input* scatters one, so
    there it is the input that counts, what falls into the padding included (as in fvcore's ``conv_flop_count``).

    Args:
        shape: Of the whole output, batch included; of a transposed convolution, of the whole input.
        weight_shape: (O, I/G, kh, kw), or (G, O/G, I/G, kh, kw) where `grouped`; of a transposed convolution
            (I, O/G, kh, kw) or (G, I/G, O/G, kh, kw).
        grouped: Whether the weights carry the group as a dimension of its own.
    """
    return math.prod(shape) * math.prod(weight_shape[2 if grouped else 1 :])


def int8_share(layers: Sequence[Layer]) -> float:
    """Return the share of multiply-accumulates that ran in INT8, 0..1; 0 where nothing multiplies."""
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.precision == "int8") / total if total else 0.0


def profile_layers(
    engine: EngineName, source: ModelSource, tensor: npt.NDArray[Any], *, threads: int, runs: int = 20
) -> tuple[Layer, ...]:
    """Run a model file with the engine's own profiler on.

    Args:
        engine: A key of `LAYER_ENGINES`.
        source: ``.onnx`` or ``.xml``, or its content as it was verified.
        tensor: The input, as the model's spec describes it.
        threads: Threads of the engine.
        runs: Counted runs; as many as a quarter of them come before, uncounted.

    Returns:
        The layers in order of execution.

    Raises:
        EngineError: The engine has no profiler, or cannot run the file.
    """
    if engine not in LAYER_ENGINES:
        raise EngineError(f"layers: expected one of {', '.join(LAYER_ENGINES)}, got {engine!r}, which tells nothing")
    function: Callable[..., tuple[Layer, ...]] = import_module(LAYER_ENGINES[engine]).profile_layers
    return function(source, np.ascontiguousarray(tensor), threads=threads, runs=runs)
