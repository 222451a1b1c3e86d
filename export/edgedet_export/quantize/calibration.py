"""Calibration: statistics of every float tensor over the pictures, in one pass and bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgedet_export.graph.conversion import to_proto
from edgedet_export.graph.values import elem_type, name_of
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.runner import onnx_runner
from edgedet_runtime.errors import InputError

__all__ = ["Calibration", "calibrate", "float_tensors"]

_CONVERGED = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured.

    Attributes:
        statistics: Tensor → its statistics.
        images: Pictures that were seen.
        growth: (pictures seen, largest range growth since the checkpoint before, as a share, over 95 % of the tensors).
        enough: Pictures after which the ranges grew by less than 5 % to the end; None if they still grew.
    """

    statistics: Mapping[str, TensorStatistics]
    images: int
    growth: tuple[tuple[int, float], ...]
    enough: int | None


def float_tensors(graph: ir.Graph) -> list[str]:
    """Return the names of the float tensors that nodes make, in graph order."""
    return [
        name_of(value)
        for node in graph
        if node.op_type != "Constant"
        for value in node.outputs
        if elem_type(value) == ir.DataType.FLOAT
    ]


def calibrate(
    model: ir.Model,
    tensors: Iterable[npt.NDArray[Any]],
    *,
    threads: int,
    progress: Callable[[int], object] | None = None,
) -> Calibration:
    """Run the FP32 model over input tensors and collect statistics.

    Args:
        model: FP32, with shapes inferred.
        tensors: Input tensors, one picture each; read once.
        threads: Threads for onnxruntime.
        progress: Called with the number of pictures done.

    Raises:
        InputError: `tensors` is empty, or the network gives NaN or infinity.
    """
    graph = model.graph
    given = [name_of(value) for value in graph.inputs if elem_type(value) == ir.DataType.FLOAT]
    names = [*given, *float_tensors(graph)]
    shown = {value.name for value in graph.outputs} | set(given)
    probe = to_proto(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    run = onnx_runner(probe, threads=threads, optimize=False)
    statistics = {name: TensorStatistics() for name in names}
    done, growth = 0, []
    widths = np.zeros(len(names))
    for tensor in tensors:
        outputs = {**run(tensor), **dict.fromkeys(given, tensor)}
        for name in names:
            array = outputs[name]
            if not math.isfinite(float(array.min()) + float(array.max())):  # NaN survives both
                raise InputError(f"calibration: tensor {name} holds NaN or infinity in picture {done}")
            statistics[name].update(array)
        done += 1
        if done & (done - 1) == 0:
            growth.append((done, _growth(statistics, widths)))
        if progress is not None:
            progress(done)
    if not done:
        raise InputError("calibration: expected at least one picture, got none")
    if done & (done - 1):
        growth.append((done, _growth(statistics, widths)))
    return Calibration(statistics, done, tuple(growth), _enough(growth))


def _growth(statistics: Mapping[str, TensorStatistics], widths: npt.NDArray[np.float64]) -> float:
    """Update `widths` (99.9 % of the elements of each tensor) and return how much the widest 5 % grew."""
    now = np.array([_width(s) for s in statistics.values()])
    before = widths.copy()
    widths[:] = now
    if not before.any():
        return 1.0
    change = np.divide(np.abs(now - before), now, out=np.zeros_like(now), where=now > 0)
    return float(np.quantile(change, 0.95))


def _width(statistics: TensorStatistics) -> float:
    centers, counts = statistics.histogram()
    share = np.cumsum(counts) / counts.sum()
    low, high = centers[np.searchsorted(share, (0.0005, 0.9995))]
    return float(high - low)


def _enough(growth: list[tuple[int, float]]) -> int | None:
    """Return the checkpoint before the first one from which on nothing grew any more."""
    enough: int | None = None
    for (seen, _), (_, later) in zip(reversed(growth[:-1]), reversed(growth[1:]), strict=True):
        if later > _CONVERGED:
            break
        enough = seen
    return enough
