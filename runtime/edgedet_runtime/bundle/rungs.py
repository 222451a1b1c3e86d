"""The rungs of the parity ladder, as a manifest tells them: one comparison each, of a stage with the one before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgedet_runtime.errors import CheckFailedError

__all__ = ["Noise", "OutputDifference", "Rung"]


@dataclass(frozen=True, slots=True)
class Noise:
    """Rounding noise of the network in float32, measured against float64.

    Attributes:
        score: Largest score difference.
        box_px: Largest box difference of comparable candidates, input pixels.
        raw: Largest difference of a raw output, relative to ``max(1, |value|)``.
    """

    score: float = 0.0
    box_px: float = 0.0
    raw: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How far one raw output is from the stage before.

    Attributes:
        name: Output.
        max_abs: Largest absolute difference.
        max_rel: Largest difference relative to ``max(1, |value|)``.
    """

    name: str
    max_abs: float
    max_rel: float


@dataclass(frozen=True, slots=True)
class Rung:
    """One comparison of the ladder.

    Attributes:
        stage: The stage that was judged.
        against: The stage before it.
        outputs: Differences of the raw outputs.
        score_error: Largest difference of any candidate's score, 0..1.
        box_error_px: Largest difference of a comparable candidate's box, input pixels.
        score_tolerance: What was allowed.
        box_tolerance_px: What was allowed.
        images: Pictures compared.
        raw_tolerance: What was allowed of each output's relative difference; None where only the meaning is judged.
        lost: Detections of the stage before that have no counterpart in this one.
        gained: Detections that the stage before does not have.
    """

    stage: str
    against: str
    outputs: tuple[OutputDifference, ...]
    score_error: float
    box_error_px: float
    score_tolerance: float
    box_tolerance_px: float
    images: int
    raw_tolerance: float | None = None
    lost: int = 0
    gained: int = 0

    @property
    def passed(self) -> bool:
        """True if all errors are within their tolerances (NaN is not) and the detections are the same."""
        raw_holds = self.raw_tolerance is None or all(o.max_rel <= self.raw_tolerance for o in self.outputs)
        means_the_same = self.score_error <= self.score_tolerance and self.box_error_px <= self.box_tolerance_px
        return raw_holds and means_the_same and not self.lost and not self.gained

    def require(self) -> Rung:
        """Return the rung if it passed.

        Raises:
            CheckFailedError: It did not; names the rung and the worst output.
        """
        if self.passed:
            return self
        raise CheckFailedError(
            f"parity {self.against} → {self.stage}: expected scores within {self.score_tolerance:.2g} and boxes within"
            f" {self.box_tolerance_px:.2g} px, got {self.score_error:.3g} and {self.box_error_px:.3g} px"
            f"{self._worst_output()}{self._changed_detections()}; nothing was written"
        )

    def _worst_output(self) -> str:
        if not self.outputs:
            return ""
        worst = max(self.outputs, key=lambda o: math.inf if math.isnan(o.max_rel) else o.max_rel)
        allowed = "" if self.raw_tolerance is None else f", allowed {self.raw_tolerance:.2g}"
        return f"; worst output {worst.name} (absolute {worst.max_abs:.3g}, relative {worst.max_rel:.3g}{allowed})"

    def _changed_detections(self) -> str:
        if not self.lost and not self.gained:
            return ""
        return f"; {self.lost} detections lost, {self.gained} gained"
