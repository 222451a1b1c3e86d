"""What INT8 did, for people: the candidates, what runs in INT8 and what does not, and what happens to scores.

Everything comes from a bundle's manifest (``quantization``, one entry per engine).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgedet import output

if TYPE_CHECKING:
    from edgedet_runtime.bundle.quantization import (
        AgreementFacts,
        CalibrationFacts,
        FloatLayerFacts,
        QuantizationFacts,
    )

__all__ = ["CANDIDATE_COLUMNS", "candidate_rows", "sentences", "show_int8"]

CANDIDATE_COLUMNS = ("candidate", "points lost", "MACs in INT8", "beside FP32", "MB", "")
"""Of `candidate_rows`; all but the first and the last are numbers."""
_NAMED_LAYERS = 3


def show_int8(quantization: Mapping[str, QuantizationFacts]) -> None:
    """Print a table of candidates and a few sentences for each engine."""
    for engine, report in quantization.items():
        rows = candidate_rows(report)
        if rows:
            lost = "AP" if report.measure == "ap" else "estimated AP, from the agreement of detections with FP32"
            title = f"INT8 for {engine}: points of {lost}"
            output.table(CANDIDATE_COLUMNS, rows, title=title, numeric=CANDIDATE_COLUMNS[1:-1])
        for text in sentences(report):
            output.line(f"INT8 for {engine}: {text}")


def candidate_rows(report: QuantizationFacts) -> list[list[str]]:
    """Return a row per candidate of the search; none where nothing was searched or nothing was found."""
    return [
        [
            trial.name,
            f"{trial.drop:.2f}",
            f"{trial.int8_share:.1%}",
            "" if trial.speedup is None else f"{trial.speedup:.2f}x",
            f"{trial.bytes / 1e6:.2f}",
            "chosen" if trial.chosen else "" if trial.within_budget else "beyond the budget",
        ]
        for trial in report.pareto
    ]


def sentences(report: QuantizationFacts) -> list[str]:
    """Return what a user should know of one engine's file, a sentence each."""
    executed = report.executed
    if executed is None:
        return []
    found = [f"{executed.macs:.1%} of the MACs and {executed.layers:.0%} of the operations run in INT8"]
    found += _kept_float(report.kept_float)
    if report.calibration is not None:
        found.append(_calibration(report.calibration))
    if report.agreement is not None:
        found.append(_scores(report.agreement, report.threshold))
    return found


def _kept_float(layers: Sequence[FloatLayerFacts]) -> list[str]:
    """Group the layers that stay in float by their reasons."""
    reasons: dict[str, list[FloatLayerFacts]] = {}
    for layer in layers:
        reasons.setdefault(layer.reason.partition(":")[0], []).append(layer)
    found = []
    for reason, group in reasons.items():
        names = ", ".join(layer.layer for layer in group[:_NAMED_LAYERS]) + (
            ", …" if len(group) > _NAMED_LAYERS else ""
        )
        macs = sum(layer.macs for layer in group) / 1e6
        found.append(f"{len(group)} stay in float ({reason}; {macs:.1f} MMACs): {names}")
    return found


def _calibration(calibration: CalibrationFacts) -> str:
    enough = calibration.enough
    found = f"calibrated on {calibration.images} pictures, "
    found += "ranges still grew at the end: more would be better" if enough is None else f"{enough} were enough"
    for what, names in (("duplicates", calibration.duplicates), ("unreadable", calibration.unreadable)):
        if names:
            found += f"; {len(names)} left out as {what}, such as {names[0]}"
    return found


def _scores(agreement: AgreementFacts, threshold: float | None) -> str:
    """Say how scores shift, and which threshold keeps the operating point, if that could be seen."""
    found = f"scores shift by {agreement.score_shift:+.4f} (spread {agreement.score_spread:.4f})"
    if threshold is None:
        return (
            f"{found}; compared down to a score of {agreement.conf:.2g}, as the calibration pictures hold few "
            "objects for this model: pictures like those of the device make a surer check"
        )
    return f"{found}; a threshold of {threshold:.3f} gives as many boxes as {agreement.conf:g} in FP32"
