"""INT8 that holds: one quantized model per engine, placed for its kernels, judged on detections, within a budget."""

from __future__ import annotations

from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.measure import Measured, measure
from edgedet_export.quantize.quantizer import (
    Placed,
    inspect_sensitivity,
    quantize,
    quantize_unjudged,
)
from edgedet_export.quantize.report import QuantReport, QuantResult
from edgedet_export.quantize.targets import TARGETS, Target, get_target, targets_of

__all__ = [
    "TARGETS",
    "Measured",
    "Placed",
    "QuantConfig",
    "QuantReport",
    "QuantResult",
    "Target",
    "get_target",
    "inspect_sensitivity",
    "measure",
    "quantize",
    "quantize_unjudged",
    "targets_of",
]
