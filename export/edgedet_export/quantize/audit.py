"""What an engine really executed in INT8, read from its own profile of the file that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgedet_runtime.engines import EngineName
from edgedet_runtime.profiling.layers import Layer, int8_share, profile_layers

__all__ = ["ExecutedPrecision", "audit_file"]

_NO_WORK = ("Reorder", "Transpose", "QuantizeLinear", "DequantizeLinear", "Const", "Reshape", "ReorderInput")


@dataclass(frozen=True, slots=True)
class ExecutedPrecision:
    """Shares that ran in INT8.

    Attributes:
        macs: Of the multiply-accumulates, 0..1.
        layers: Of the executed operations that compute (no conversions), 0..1.
        kernels: Executed operations by ``kind precision``, with their number and their time in milliseconds.
    """

    macs: float
    layers: float
    kernels: tuple[tuple[str, int, float], ...]


def audit_file(
    engine: EngineName, path: Path, tensor: npt.NDArray[Any], *, threads: int, runs: int = 5
) -> ExecutedPrecision:
    """Profile a file on an engine that the runtime can profile.

    Args:
        engine: One that `profile_layers` knows.
        path: The file.
        tensor: An input.
        threads: Threads of the engine.
        runs: Profiled runs.

    Raises:
        EngineError: The engine cannot run it.
    """
    layers = profile_layers(engine, path, tensor, threads=threads, runs=runs)
    working = [layer for layer in layers if layer.kind not in _NO_WORK]
    int8 = sum(layer.precision == "int8" for layer in working)
    return ExecutedPrecision(int8_share(layers), int8 / max(len(working), 1), _kernels(layers))


def _kernels(layers: tuple[Layer, ...]) -> tuple[tuple[str, int, float], ...]:
    groups: dict[str, list[float]] = {}
    for layer in layers:
        groups.setdefault(f"{layer.kind} {layer.precision}", []).append(layer.time_ms)
    return tuple(
        (name, len(times), round(sum(times), 3)) for name, times in sorted(groups.items(), key=lambda g: -sum(g[1]))
    )
