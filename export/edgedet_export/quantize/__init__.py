"""INT8 that holds: one quantised model per engine, placed for its kernels, judged on detections, within a budget."""

from __future__ import annotations

from edgedet_export.quantize.config import QuantConfig, QuantEngine
from edgedet_export.quantize.quantizer import (
    Measured,
    Placed,
    inspect_sensitivity,
    measure,
    quantize,
    quantize_unjudged,
)
from edgedet_export.quantize.report import QuantReport, QuantResult

__all__ = [
    "Measured",
    "Placed",
    "QuantConfig",
    "QuantEngine",
    "QuantReport",
    "QuantResult",
    "inspect_sensitivity",
    "measure",
    "quantize",
    "quantize_unjudged",
]
