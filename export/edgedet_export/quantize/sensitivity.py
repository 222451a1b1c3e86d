"""Which layers suffer from INT8: each layer alone is quantised, the rest stays in float.

The effect is measured where it counts, at the raw heads, as the shift of probabilities and boxes at the places that
matter: sum |p_int8 - p_float| / sum p_float over all cells and classes, plus the mean error of the raw box vectors,
weighted by p_float. Next to it stands what explains it: the signal-to-noise ratio of the quantised tensor, per
channel, which shows the channels that are small beside an outlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.quantize.plan import Grid
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_runtime.candidates import sigmoid
from edgedet_runtime.spec import ModelSpec

__all__ = ["LayerSensitivity", "channel_sqnr_db", "distortion", "rank_layers"]

Outputs = Mapping[str, npt.NDArray[np.float32]]

_POOR_DB = 10.0


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One layer's reaction to INT8.

    Attributes:
        layer: Its id.
        effect: Distortion of the detections if this layer alone is in INT8; 0 is none.
        macs: Its multiply-accumulates.
        low: Smallest element of its input.
        high: Largest.
        sqnr_db: Signal to quantisation noise at its input over all channels.
        worst_channel_db: The same for the worst channel that carries a signal.
        poor_channels: Share of the channels with less than 10 dB.
        outlier_ratio: Largest channel range divided by the median channel range.
    """

    layer: str
    effect: float
    macs: int
    low: float
    high: float
    sqnr_db: float
    worst_channel_db: float
    poor_channels: float
    outlier_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def distortion(reference: Outputs, other: Outputs, spec: ModelSpec) -> float:
    """Return how far raw outputs moved, weighted by the reference's confidence; 0 for equal ones."""
    total = 0.0
    for level in spec.decode.levels:
        anchors = max(len(level.anchors_px), 1)
        p, q = (_confidence(outputs, level.scores, level.objectness, anchors) for outputs in (reference, other))
        weight = p.max(axis=1, keepdims=True)
        boxes = reference[level.boxes]
        error = np.abs(other[level.boxes] - boxes).reshape(anchors, -1, *boxes.shape[2:])
        total += float(np.abs(q - p).sum()) / max(float(p.sum()), 1e-9)
        total += float((error * weight).mean(axis=1).sum()) / max(float(weight.sum()), 1e-9)
    return total / len(spec.decode.levels)


def _confidence(outputs: Outputs, scores: str | None, objectness: str | None, anchors: int) -> npt.NDArray[np.float32]:
    """Return probabilities (anchors, classes, H, W)."""
    parts = []
    for name in (objectness, scores):
        if name is not None:
            array = outputs[name]
            parts.append(sigmoid(array.reshape(anchors, -1, *array.shape[2:])))
    return parts[0] if len(parts) == 1 else parts[0] * parts[1]


def channel_sqnr_db(statistics: TensorStatistics, grid: Grid) -> npt.NDArray[np.float64]:
    """Return signal to quantisation noise per channel in dB, with rounding noise of step²/12; inf for no signal."""
    power = statistics.channel_power
    noise = grid.scale**2 / 12
    with np.errstate(divide="ignore"):
        return np.where(power > 0, 10 * np.log10(np.maximum(power, 1e-30) / noise), np.inf)


def rank_layers(
    build: Callable[[str], onnx.ModelProto],
    run: Callable[[onnx.ModelProto], Sequence[Outputs]],
    reference: Sequence[Outputs],
    spec: ModelSpec,
    candidates: Sequence[tuple[str, int, str]],
    grids: Mapping[str, Grid],
    statistics: Mapping[str, TensorStatistics],
    progress: Callable[[int, int], object] | None = None,
) -> tuple[LayerSensitivity, ...]:
    """Quantise one layer after the other and measure.

    Args:
        build: Layer id → model with that layer alone in INT8.
        run: Model → raw outputs for the probe pictures.
        reference: Raw outputs of the FP32 model for the same pictures.
        spec: The model's contract.
        candidates: (layer id, multiply-accumulates, input tensor) of each layer.
        grids: Grids of the input tensors.
        statistics: Of the input tensors.
        progress: Called as progress(done, total).

    Returns:
        Most sensitive first; equal effects in graph order.
    """
    found = []
    for done, (layer, macs, tensor) in enumerate(candidates):
        outputs = run(build(layer))
        effect = float(np.mean([distortion(r, o, spec) for r, o in zip(reference, outputs, strict=True)]))
        found.append(_describe(layer, macs, effect, statistics[tensor], grids[tensor]))
        if progress is not None:
            progress(done + 1, len(candidates))
    return tuple(sorted(found, key=lambda s: -s.effect))


def _describe(layer: str, macs: int, effect: float, statistics: TensorStatistics, grid: Grid) -> LayerSensitivity:
    db = channel_sqnr_db(statistics, grid)
    alive = db[np.isfinite(db)]
    spans = statistics.channel_high - statistics.channel_low
    overall = 10 * np.log10(max(float(statistics.channel_power.mean()), 1e-30) / (grid.scale**2 / 12))
    return LayerSensitivity(
        layer=layer,
        effect=effect,
        macs=macs,
        low=statistics.low,
        high=statistics.high,
        sqnr_db=float(overall),
        worst_channel_db=float(alive.min()) if len(alive) else float(overall),
        poor_channels=float((alive < _POOR_DB).mean()) if len(alive) else 0.0,
        outlier_ratio=float(spans.max() / max(float(np.median(spans)), 1e-12)),
    )
