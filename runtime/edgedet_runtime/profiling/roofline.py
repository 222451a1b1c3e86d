"""What bounds a layer: the machine's arithmetic or its memory.

The roofline model (Williams, Waterman and Patterson, Roofline: An Insightful Visual Performance Model for Multicore
Architectures, Communications of the ACM 52(4), 2009): a layer of arithmetic intensity I, operations per byte moved,
reaches at most ``min(peak, I x bandwidth)``. Where the second term is the smaller one, a faster kernel would not help;
fewer bytes would. In time, which also covers layers that multiply nothing::

    allowed = max(MACs / peak, bytes / bandwidth)        bound: whichever of the two is larger

Both roofs are measured here, none is taken from a data sheet. The peak is the rate of a dense convolution that the
engine itself runs, in the plan's threads and in the layer's precision, timed by the same profiler as the layers; so a
layer at 100 % is as good as that engine gets. The bandwidth is that of copies which touch as many bytes as the layer
does (the cache-aware variant: Ilic, Pratas and Sousa, Cache-aware Roofline Model: Upgrading the Loft, IEEE Computer
Architecture Letters 13(1), 2014): a detector's tensors mostly stay in the caches, and against the memory's bandwidth
alone its layers would lie above the roof.

A layer can still exceed 100 %: its input may come from a nearer cache, or its kernel suit the CPU better than the
probe's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from edgedet_runtime.choices import EngineName
from edgedet_runtime.errors import EngineError
from edgedet_runtime.profiling.bandwidth import Bandwidth, measure_bandwidth
from edgedet_runtime.profiling.layers import Layer, profile_layers
from edgedet_runtime.profiling.probe_model import Activations, ProbeShape, write_convolution

__all__ = ["Bound", "Peaks", "Place", "RooflineSummary", "measure_peaks", "place", "summarize_places"]

Bound = Literal["compute", "memory", "unknown"]

_SHAPES = (ProbeShape(256, 1, (40, 40)), ProbeShape(128, 3, (40, 40)))
_FORMS: dict[str, tuple[Activations, ...]] = {"fp32": ("float32",), "int8": ("uint8", "int8")}
_PASSES = 2
_RUNS = 8
_CLOCK_MS = 1e-3  # both profilers count microseconds


@dataclass(frozen=True, slots=True)
class Peaks:
    """What an engine reaches on this machine with so many threads.

    Attributes:
        engine: Its name.
        threads: Its threads.
        gmacs_per_s: 1e9 multiply-accumulates per second by executed precision.
        missing: Why a precision is not among them, such as that the engine has no integer kernel here.
        bandwidth: Bytes per second.
    """

    engine: EngineName
    threads: int
    gmacs_per_s: dict[str, float]
    missing: dict[str, str]
    bandwidth: Bandwidth


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer lies under the roofs.

    Attributes:
        gmacs_per_s: Reached, in 1e9 per second; None where the profiler gave no time.
        gb_per_s: Bytes moved, 1e9 per second; None where the profiler gave no time.
        allowed_ms: The time that the roofs allow; None where the precision's peak is not known.
        bound: ``compute``, ``memory``, or ``unknown`` without a peak.
        attained: Allowed over measured time, 1 at the roof; None where one of them is missing.
    """

    gmacs_per_s: float | None
    gb_per_s: float | None
    allowed_ms: float | None
    bound: Bound
    attained: float | None


@dataclass(frozen=True, slots=True)
class RooflineSummary:
    """Where the layers' time goes, as shares of their sum, 0..1.

    Attributes:
        memory: In memory-bound layers.
        compute: In compute-bound layers.
        unknown: In layers whose precision has no measured peak.
        attained: What the roofs allow over what was measured, for the layers that can be judged. No layer counts for
            more than its own time, so that one above its roof, or one that the engine does in place, hides no other.
    """

    memory: float
    compute: float
    unknown: float
    attained: float


def measure_peaks(
    engine: EngineName, threads: int, bandwidth: Bandwidth | None = None, *, shapes: Sequence[ProbeShape] = _SHAPES
) -> Peaks:
    """Measure an engine's peaks; takes a few seconds on a small board.

    Args:
        engine: A key of `layers.LAYER_ENGINES`.
        threads: Threads of the engine.
        bandwidth: With as many threads, if it has been measured already.
        shapes: Dense convolutions, of which the fastest counts.

    Returns:
        The peaks. A probe that the engine refuses, such as any ONNX file where OpenVINO was built without its reader,
        or runs in another precision, leaves its reason in `missing`.
    """
    peaks: dict[str, float] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgedet-") as folder:
        for asked, forms in _FORMS.items():
            ran: dict[str, float] = {}
            refused = "nothing"
            for form, shape in product(forms, shapes):
                file = write_convolution(Path(folder) / "probe.onnx", shape, form)
                try:
                    for _ in range(_PASSES):
                        precision, rate = _rate(engine, threads, file, shape)
                        ran[precision] = max(rate, ran.get(precision, 0.0))
                except EngineError as e:
                    refused = str(e)
            if asked in ran:
                peaks[asked] = ran[asked]
            else:
                missing[asked] = f"{engine} ran the probe in {', '.join(ran)} on this CPU" if ran else refused
    return Peaks(engine, threads, peaks, missing, bandwidth or measure_bandwidth(threads))


def _rate(engine: EngineName, threads: int, file: Path, shape: ProbeShape) -> tuple[str, float]:
    """Return the precision that the probe ran in, and 1e9 multiply-accumulates per second."""
    tensor = np.random.default_rng(1).random(shape.input_shape, np.float32)
    layers = profile_layers(engine, file, tensor, threads=threads, runs=_RUNS)
    heavy = max(layers, key=lambda layer: layer.macs)
    return heavy.precision, shape.macs / max(heavy.time_ms, _CLOCK_MS) / 1e6


def place(layer: Layer, peaks: Peaks) -> Place:
    """Say where a layer lies under the roofs."""
    measured_s = layer.time_ms / 1e3
    memory_s = layer.bytes / peaks.bandwidth.at(layer.bytes) / 1e9
    peak = peaks.gmacs_per_s.get(layer.precision)
    allowed_s: float | None = memory_s
    bound: Bound = "memory"
    if layer.macs and peak is None:
        allowed_s, bound = None, "unknown"
    elif peak is not None and layer.macs / peak / 1e9 > memory_s:
        allowed_s, bound = layer.macs / peak / 1e9, "compute"
    return Place(
        gmacs_per_s=layer.macs / measured_s / 1e9 if measured_s > 0 else None,
        gb_per_s=layer.bytes / measured_s / 1e9 if measured_s > 0 else None,
        allowed_ms=None if allowed_s is None else allowed_s * 1e3,
        bound=bound,
        attained=allowed_s / measured_s if allowed_s is not None and measured_s > 0 else None,
    )


def summarize_places(layers: Sequence[Layer], places: Sequence[Place]) -> RooflineSummary | None:
    """Sum up where the time goes; None where the layers took no time at all."""
    total_ms = sum(layer.time_ms for layer in layers)
    if total_ms <= 0:
        return None
    spent: dict[Bound, float] = {"compute": 0.0, "memory": 0.0, "unknown": 0.0}
    allowed_ms = 0.0
    for layer, at in zip(layers, places, strict=True):
        spent[at.bound] += layer.time_ms
        allowed_ms += min(at.allowed_ms or 0.0, layer.time_ms)
    judged_ms = spent["compute"] + spent["memory"]
    return RooflineSummary(
        memory=spent["memory"] / total_ms,
        compute=spent["compute"] / total_ms,
        unknown=spent["unknown"] / total_ms,
        attained=allowed_ms / judged_ms if judged_ms else 0.0,
    )
