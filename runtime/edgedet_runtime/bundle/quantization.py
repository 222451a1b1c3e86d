"""What a manifest says of one engine's INT8: what was tried, what was chosen, what it loses, and what runs in INT8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AgreementFacts",
    "CalibrationFacts",
    "CandidateFacts",
    "ExecutedFacts",
    "FloatLayerFacts",
    "LayerFacts",
    "QuantizationFacts",
]


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """One candidate of the search.

    Attributes:
        name: What it is, in words.
        drop: Loss in points of 100, of AP or estimated from the agreement.
        ap: AP 0..1, if labels were given.
        agreement: Of detections with FP32, 0..1.
        int8_share: Share of the MACs in INT8.
        speedup: FP32 latency divided by this one's; None if not measured.
        bytes: Size of the ONNX model.
        within_budget: Whether it keeps the budget.
        chosen: Whether it was written.
    """

    name: str
    drop: float
    ap: float | None
    agreement: float
    int8_share: float
    speedup: float | None
    bytes: int
    within_budget: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class FloatLayerFacts:
    """A layer that stays in float.

    Attributes:
        layer: Its id.
        reason: Why.
        macs: Its multiply-accumulates.
    """

    layer: str
    reason: str
    macs: int


@dataclass(frozen=True, slots=True)
class ExecutedFacts:
    """What the engine really executes in INT8 of the file that ships.

    Attributes:
        macs: Share of the multiply-accumulates, 0..1.
        layers: Share of the executed operations that compute, 0..1.
        kernels: Executed operations by kind and precision, with their number and their time in milliseconds.
    """

    macs: float
    layers: float
    kernels: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True, slots=True)
class AgreementFacts:
    """Detections against those of FP32 on the calibration pictures.

    Attributes:
        agreement: 0..1, average precision with FP32's detections as the truth.
        conf: FP32's detections above this score were the truth.
        reference: Their number.
        matched: How many of them INT8 found above `conf` too.
        extra: Detections of INT8 above `conf` that match none.
        score_shift: Mean of INT8's score minus FP32's, over matches.
        score_spread: Standard deviation of that difference.
        threshold: Score above which INT8 gives as many detections as FP32 above `conf`.
    """

    agreement: float
    conf: float
    reference: int
    matched: int
    extra: int
    score_shift: float
    score_spread: float
    threshold: float


@dataclass(frozen=True, slots=True)
class CalibrationFacts:
    """What calibrated.

    Attributes:
        images: Pictures used.
        enough: Pictures after which the ranges no longer grew by 5 %; None if they still did at the end.
        growth: (pictures, growth of the ranges since the row before).
        duplicates: Pictures left out as copies.
        unreadable: Files left out as unreadable.
        sha256: Over the pixels of the pictures used.
    """

    images: int
    enough: int | None
    growth: tuple[tuple[int, float], ...]
    duplicates: tuple[str, ...]
    unreadable: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer's reaction to INT8.

    Attributes:
        layer: Its id.
        effect: Distortion of the detections if this layer alone is in INT8.
        macs: Its multiply-accumulates.
        low: Smallest element of its input.
        high: Largest.
        sqnr_db: Signal to quantization noise at its input over all channels.
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


@dataclass(frozen=True, slots=True)
class QuantizationFacts:
    """The INT8 of one engine. What does not apply is None or empty.

    Attributes:
        recommended: The precision that the export recommends for the engine.
        failed: Why there is no INT8 file; None where there is one.
        searched: False where the plain placement was taken without a search and without a judgment.
        engine: The engine.
        cpu: The kind of CPU that the file is for.
        activations: ``uint8`` or ``int8``.
        weight_limit: Largest weight code.
        rule: How ranges were chosen.
        measure: ``ap`` or ``agreement``.
        max_drop: The budget, in points.
        max_float: The budget, share of the MACs in float.
        reference_ap: AP of FP32 0..1, if labels were given.
        pareto: All candidates.
        kept_float: Layers that stay in float.
        int8_share: Share of the MACs that the file has in INT8.
        executed: What the engine executes.
        agreement: Detections against FP32.
        default_conf: The model's default threshold.
        threshold: Score above which INT8 gives as many detections as FP32 at its default threshold; None where the
            pictures hold too few objects to tell.
        speedup: FP32 latency divided by INT8 latency where it was exported.
        latency_ms: Median of INT8 there.
        fp32_latency_ms: Median of FP32 there.
        calibration: What calibrated.
        sensitivity: Of the layers, most sensitive first; empty if the search did not need it.
    """

    recommended: Literal["fp32", "int8"]
    failed: str | None = None
    searched: bool = True
    engine: str | None = None
    cpu: str | None = None
    activations: str | None = None
    weight_limit: int | None = None
    rule: str | None = None
    measure: Literal["ap", "agreement"] | None = None
    max_drop: float | None = None
    max_float: float | None = None
    reference_ap: float | None = None
    pareto: tuple[CandidateFacts, ...] = ()
    kept_float: tuple[FloatLayerFacts, ...] = ()
    int8_share: float | None = None
    executed: ExecutedFacts | None = None
    agreement: AgreementFacts | None = None
    default_conf: float | None = None
    threshold: float | None = None
    speedup: float | None = None
    latency_ms: float | None = None
    fp32_latency_ms: float | None = None
    calibration: CalibrationFacts | None = None
    sensitivity: tuple[LayerFacts, ...] = ()
