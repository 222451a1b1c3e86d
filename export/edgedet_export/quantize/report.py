"""The report of one quantization, as frozen values that serialize to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx

from edgedet_export.quantize.agreement import Agreement
from edgedet_export.quantize.plan import KeptFloat
from edgedet_runtime.bundle.quantization import CalibrationFacts, CandidateFacts, LayerFacts
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import CheckFailedError

__all__ = ["BudgetError", "QuantReport", "QuantResult"]


class BudgetError(CheckFailedError):
    """No candidate keeps the budget.

    Attributes:
        measure: ``ap`` or ``agreement``.
        pareto: All candidates.
    """

    def __init__(self, message: str, measure: str, pareto: tuple[CandidateFacts, ...]) -> None:
        """Keep what was tried."""
        super().__init__(message)
        self.measure = measure
        self.pareto = pareto

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"failed": str(self), "measure": self.measure, "pareto": [asdict(row) for row in self.pareto]}


@dataclass(frozen=True, slots=True)
class QuantReport:
    """All that is worth knowing about a quantized model; what its file executes is known when it is written.

    Attributes:
        engine: The engine it is for.
        cpu: The kind of CPU it is for.
        activations: ``uint8`` or ``int8``.
        weight_limit: Largest weight code.
        rule: How ranges were chosen.
        measure: ``ap`` or ``agreement``.
        max_drop: The budget.
        max_float: The budget.
        reference_ap: AP of FP32 0..1, if labels were given.
        pareto: All candidates.
        kept_float: Layers that stay in float.
        int8_share: Share of the MACs that the file has in INT8.
        agreement: Detections against FP32, with the shift of scores and the threshold that keeps the operating point.
        default_conf: The model's default threshold.
        speedup: FP32 latency divided by INT8 latency on this machine.
        latency_ms: Median of INT8 on this machine.
        fp32_latency_ms: Median of FP32 on this machine.
        recommended: Whether INT8 was faster than FP32 here.
        calibration: What calibrated.
        sensitivity: Of the layers, most sensitive first; empty if the search did not need it.
    """

    engine: EngineName
    cpu: str
    activations: str
    weight_limit: int
    rule: str
    measure: str
    max_drop: float
    max_float: float
    reference_ap: float | None
    pareto: tuple[CandidateFacts, ...]
    kept_float: tuple[KeptFloat, ...]
    int8_share: float
    agreement: Agreement
    default_conf: float
    speedup: float
    latency_ms: float
    fp32_latency_ms: float
    recommended: bool
    calibration: CalibrationFacts
    sensitivity: tuple[LayerFacts, ...]

    @property
    def threshold(self) -> float | None:
        """Score above which INT8 gives as many detections as FP32 at its default threshold.

        None where the calibration pictures hold too few objects to tell (see `reference_conf`).
        """
        return self.agreement.threshold if self.agreement.conf == self.default_conf else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "threshold": self.threshold}


@dataclass(frozen=True, slots=True)
class QuantResult:
    """A quantized model and its report.

    Attributes:
        model: QDQ ONNX for the engine that was asked for.
        report: What was done and measured.
    """

    model: onnx.ModelProto
    report: QuantReport
