"""Bias correction: give each INT8 layer back the mean that rounding took from its output.

Rounding weights and inputs shifts the mean of a convolution's output per channel, by E[W x] - E[Wq xq]. With the means
of the input channels this is, up to the border, (sum of W over the kernel) · E[x] - (sum of Wq) · E[xq]; it is added to
the bias. (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2,
with measured means instead of those of BatchNorm.) The means are taken in the FP32 network, layer by layer, so that the
correction of one layer never repeats that of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgedet_export.graph.conversion import to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.values import constant
from edgedet_export.quantize.apply_plan import quantize_weight
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.plan import Grid, QuantPlan
from edgedet_export.quantize.runner import Runner, onnx_runner

__all__ = ["ChannelMeans", "corrected_biases"]

Floats = npt.NDArray[np.float64]


class ChannelMeans:
    """Means of the input channels of convolutions over a few pictures, in float and on a grid."""

    def __init__(
        self,
        model: ir.Model,
        layers: tuple[ConvLayer, ...],
        tensors: Iterable[npt.NDArray[Any]],
        *,
        threads: int,
    ) -> None:
        """Take the FP32 model and a few input tensors, which are kept."""
        self._tensors = tuple(tensors)
        self._names = list(dict.fromkeys(layer.data for layer in layers))
        probe = to_proto(model)
        shown = {o.name for o in probe.graph.output}
        probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in self._names if n not in shown)
        self._run: Runner = onnx_runner(probe, threads=threads, optimize=False)
        self._known: dict[tuple[str, Grid | None], Floats] = {}

    def measure(self, grids: Mapping[str, Grid]) -> dict[str, tuple[Floats, Floats]]:
        """Return tensor → (means in float, means on its grid), float64 (C,) each."""
        wanted: set[tuple[str, Grid | None]] = {(name, grid) for name, grid in grids.items() if name in self._names}
        wanted |= {(name, None) for name, _ in wanted}
        missing = [key for key in sorted(wanted, key=repr) if key not in self._known]
        if missing:
            sums: dict[tuple[str, Grid | None], list[Floats]] = {key: [] for key in missing}
            for tensor in self._tensors:
                outputs = self._run(tensor)
                for name, grid in missing:
                    array = outputs[name] if grid is None else _on_grid(outputs[name], grid)
                    sums[name, grid].append(array.mean(axis=(0, *range(2, array.ndim)), dtype=np.float64))
            self._known.update({key: np.mean(values, axis=0) for key, values in sums.items()})
        return {
            name: (self._known[name, None], self._known[name, grid])
            for name, grid in grids.items()
            if name in self._names
        }


def corrected_biases(
    graph: ir.Graph, layers: tuple[ConvLayer, ...], plan: QuantPlan, means: ChannelMeans
) -> dict[str, npt.NDArray[np.float32]]:
    """Return layer id → corrected bias, for the INT8 layers of a plan.

    Args:
        graph: FP32.
        layers: Its convolutions.
        plan: What is quantized.
        means: Of the layers' inputs.
    """
    found = means.measure(plan.grids)
    quantized, values = set(plan.layers), by_name(graph)
    return {layer.id: _corrected(values, layer, plan, *found[layer.data]) for layer in layers if layer.id in quantized}


def _corrected(
    values: Mapping[str, ir.Value], layer: ConvLayer, plan: QuantPlan, exact: Floats, rounded: Floats
) -> npt.NDArray[np.float32]:
    weight = constant(values[layer.weight])
    assert weight is not None, "a ConvLayer has constant weights"
    bias = constant(values[layer.bias]) if layer.bias is not None else None
    codes, scales = quantize_weight(weight, plan.number_format.weight_limit)
    stored = codes * np.expand_dims(scales.astype(np.float64), tuple(range(1, weight.ndim)))
    shift = _mean_output(weight, exact, layer.groups)
    shift -= _mean_output(stored, rounded, layer.groups)
    return (shift if bias is None else bias + shift).astype(np.float32)


def _mean_output(weight: npt.NDArray[Any], means: Floats, groups: int) -> Floats:
    """Return the mean output per channel of a convolution without borders, bias left out."""
    kernel = weight.sum(axis=tuple(range(2, weight.ndim)), dtype=np.float64)
    inputs = np.repeat(np.split(means, groups), len(weight) // groups, axis=0)
    return np.asarray((kernel * inputs).sum(axis=1))


def _on_grid(array: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.float32]:
    low = -128 if grid.signed else 0
    codes = np.clip(np.round(array / np.float32(grid.scale)) + grid.zero_point, low, low + 255)
    return np.asarray((codes - grid.zero_point) * np.float32(grid.scale), np.float32)
