"""Which layers suffer from INT8: each layer alone is quantized, the rest stays in float.

The effect is measured where it counts, at the raw heads, as the shift of probabilities and boxes at the places that
matter: sum |p_int8 - p_float| / sum p_float over all cells and classes, plus the mean error of the raw box vectors,
weighted by p_float. Next to it stands what explains it: the signal-to-noise ratio of the quantized tensor, per
channel, which shows the channels that are small beside an outlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgedet_export.alignment import align
from edgedet_export.graph.conversion import to_proto
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.measure import Progress
from edgedet_export.quantize.plan import Grid
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.trials import Recipe, Workbench
from edgedet_runtime.bundle.quantization import LayerFacts
from edgedet_runtime.candidates import sigmoid, softmax
from edgedet_runtime.spec import DecodeSpec, LevelSpec, ModelSpec

__all__ = [
    "QuantizedInput",
    "channel_sqnr_db",
    "distortion",
    "measure_sensitivity",
    "rank_layers",
]

Outputs = Mapping[str, npt.NDArray[np.float32]]

_POOR_DB = 10.0
_TINY = float(np.finfo(np.float32).tiny)  # only keeps a division from zero


def distortion(reference: Outputs, other: Outputs, spec: ModelSpec) -> float:
    """Return how far raw outputs moved, weighted by the reference's confidence; 0 for equal ones."""
    names = spec.decode.output_names
    moved = align(spec, [reference[name] for name in names], [other[name] for name in names])
    other = dict(zip(names, moved, strict=True))
    total = 0.0
    for level in spec.decode.levels:
        anchors = max(len(level.anchors_px), 1)
        p, q = (_confidence(outputs, level, spec.decode) for outputs in (reference, other))
        weight = p.max(axis=1, keepdims=True)
        boxes = reference[level.boxes]
        error = _by_anchor(np.abs(other[level.boxes] - boxes), anchors)
        total += float(np.abs(q - p).sum()) / max(float(p.sum()), _TINY)
        total += float((error * weight).mean(axis=1).sum()) / max(float(weight.sum()), _TINY)
    return total / len(spec.decode.levels)


def _confidence(outputs: Outputs, level: LevelSpec, decode: DecodeSpec) -> npt.NDArray[np.float32]:
    """Return probabilities (anchors, classes, H, W)."""
    anchors = max(len(level.anchors_px), 1)
    if decode.score == "softmax":
        logits = _by_anchor(outputs[str(level.scores)], anchors).transpose(0, 2, 3, 1)
        return np.asarray(softmax(logits)[..., 1:].transpose(0, 3, 1, 2))
    parts = []
    for name in (level.objectness, level.scores):
        if name is not None:
            parts.append(sigmoid(_by_anchor(outputs[name], anchors)))
    product = parts[0] if len(parts) == 1 else parts[0] * parts[1]
    return np.sqrt(product) if decode.score == "sqrt(obj*cls)" else product


def _by_anchor(array: npt.NDArray[np.float32], anchors: int) -> npt.NDArray[np.float32]:
    """Return (anchors, channels, H, W) of (1, anchors * channels, H, W), or (1, channels, 1, Q) of queries."""
    if array.ndim == 3:
        return np.asarray(array.transpose(0, 2, 1)[:, :, None])
    _, channels, height, width = array.shape
    return array.reshape(anchors, channels // anchors, height, width)


def channel_sqnr_db(statistics: TensorStatistics, grid: Grid) -> npt.NDArray[np.float64]:
    """Return signal to quantization noise per channel in dB, with rounding noise of step²/12; inf for no signal."""
    power = statistics.channel_power
    noise = grid.scale**2 / 12
    with np.errstate(divide="ignore"):
        return np.where(power > 0, 10 * np.log10(np.maximum(power, 1e-30) / noise), np.inf)


def measure_sensitivity(bench: Workbench, recipe: Recipe, progress: Progress) -> tuple[LayerFacts, ...]:
    """Quantize each layer of a recipe alone and rank the layers by the harm.

    Args:
        bench: Of the model and target.
        recipe: Which layers, in which form, with which ranges.
        progress: Called with a few words after each layer.

    Returns:
        Most sensitive first; equal effects in graph order.
    """
    plan, variant = bench.plan(recipe), bench.variant(recipe.form)
    tensors = bench.tensors[: bench.config.probe_images]
    fp32 = onnx_runner(to_proto(bench.model), threads=bench.threads)
    reference = [fp32(tensor) for tensor in tensors]

    def effect(layer: ConvLayer) -> float:
        others = {other.id: "not the layer under test" for other in bench.layers if other.id != layer.id}
        model = bench.build(bench.plan(replace(recipe, keep=others)), recipe.form)
        run = onnx_runner(model, threads=bench.threads)
        return float(np.mean([distortion(r, run(t), bench.spec) for r, t in zip(reference, tensors, strict=True)]))

    wanted = set(plan.layers)
    inputs = [
        QuantizedInput(layer, plan.grids[layer.data], variant.statistics[layer.data])
        for layer in variant.layers
        if layer.id in wanted
    ]
    return rank_layers(inputs, effect, progress)


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedInput:
    """A layer with the tensor that it reads in 8 bits.

    Attributes:
        layer: The layer.
        grid: Of its input.
        statistics: Of its input.
    """

    layer: ConvLayer
    grid: Grid
    statistics: TensorStatistics


def rank_layers(
    inputs: Sequence[QuantizedInput], effect: Callable[[ConvLayer], float], progress: Progress
) -> tuple[LayerFacts, ...]:
    """Measure one layer after the other.

    Args:
        inputs: The layers, in graph order.
        effect: Distortion of the detections with a layer alone in INT8.
        progress: Called with a few words after each layer.

    Returns:
        Most sensitive first; equal effects in graph order.
    """
    found = []
    for done, quantized in enumerate(inputs, 1):
        found.append(_describe(quantized, effect(quantized.layer)))
        progress(f"measuring single layers, {done} of {len(inputs)}")
    return tuple(sorted(found, key=lambda s: -s.effect))


def _describe(quantized: QuantizedInput, effect: float) -> LayerFacts:
    statistics, grid = quantized.statistics, quantized.grid
    db = channel_sqnr_db(statistics, grid)
    alive = db[np.isfinite(db)]
    spans = statistics.channel_high - statistics.channel_low
    overall = 10 * np.log10(max(float(statistics.channel_power.mean()), 1e-30) / (grid.scale**2 / 12))
    return LayerFacts(
        layer=quantized.layer.id,
        effect=effect,
        macs=quantized.layer.macs,
        low=statistics.low,
        high=statistics.high,
        sqnr_db=float(overall),
        worst_channel_db=float(alive.min()) if len(alive) else float(overall),
        poor_channels=float((alive < _POOR_DB).mean()) if len(alive) else 0.0,
        outlier_ratio=float(spans.max() / max(float(np.median(spans)), 1e-12)),
    )
