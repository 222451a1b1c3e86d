"""The parity ladder: each stage of an export is compared with the one before it, on real pictures.

Two things are compared. Raw outputs, for the record: worst absolute and relative difference of each. And what they
mean, to judge: the scores of all candidates, and the boxes (in input pixels) of those that could ever be shown.

FP32 rungs must hold 1e-4 on scores and 0.02 px on boxes. float32 itself does not reach that on every network: where
the checkpoint in float32 already differs from itself in float64 by more, no rung can be asked for less than that
noise, so the tolerance is the larger of the two (`NOISE_FACTOR` times the noise), and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgedet_models.decode import decode
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec

__all__ = [
    "BOX_TOLERANCE_PX",
    "NOISE_FACTOR",
    "SCORE_TOLERANCE",
    "Noise",
    "OutputDifference",
    "Rung",
    "compare",
    "measure_noise",
]

SCORE_TOLERANCE = 1e-4
BOX_TOLERANCE_PX = 0.02
NOISE_FACTOR = 4.0
VISIBLE_SCORE = 0.01
"""Boxes are compared where the best score reaches this in either stage …"""
ALWAYS_COMPARED = 100
"""… and for this many best candidates in any case, so that an untrained network is judged too."""

Outputs = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Noise:
    """Rounding noise of the network in float32, measured against float64.

    Attributes:
        score: Largest score difference.
        box_px: Largest box difference of comparable candidates, input pixels.
    """

    score: float = 0.0
    box_px: float = 0.0


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
    """

    stage: str
    against: str
    outputs: tuple[OutputDifference, ...]
    score_error: float
    box_error_px: float
    score_tolerance: float
    box_tolerance_px: float
    images: int

    @property
    def passed(self) -> bool:
        """True if both errors are within their tolerances (NaN is not)."""
        return self.score_error <= self.score_tolerance and self.box_error_px <= self.box_tolerance_px

    def require(self) -> Rung:
        """Return the rung if it passed.

        Raises:
            CheckFailedError: It did not; names the rung and the worst output.
        """
        if self.passed:
            return self
        worst = max(self.outputs, key=lambda o: np.inf if np.isnan(o.max_rel) else o.max_rel)
        raise CheckFailedError(
            f"parity {self.against} → {self.stage}: expected scores within {self.score_tolerance:.2g} and boxes within"
            f" {self.box_tolerance_px:.2g} px, got {self.score_error:.3g} and {self.box_error_px:.3g} px; worst output"
            f" {worst.name} (absolute {worst.max_abs:.3g}, relative {worst.max_rel:.3g}); nothing was written"
        )


def _decode(spec: ModelSpec, raw: Outputs) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    boxes, scores = decode(spec, [torch.from_numpy(np.asarray(o, np.float64)) for o in raw])
    return boxes[0].numpy(), scores[0].numpy()


def _meaning_errors(spec: ModelSpec, before: Outputs, after: Outputs) -> tuple[float, float]:
    """Return the largest score difference, and the largest box difference of comparable candidates."""
    boxes_a, scores_a = _decode(spec, before)
    boxes_b, scores_b = _decode(spec, after)
    best = np.maximum(scores_a.max(axis=1), scores_b.max(axis=1))
    top = np.argsort(-best, kind="stable")[:ALWAYS_COMPARED]
    compared = np.union1d(np.flatnonzero(best >= VISIBLE_SCORE), top)
    score_error = np.abs(scores_a - scores_b).max()
    return float(score_error), float(np.abs(boxes_a[compared] - boxes_b[compared]).max())


def measure_noise(spec: ModelSpec, single: Sequence[Outputs], double: Sequence[Outputs]) -> Noise:
    """Measure float32's rounding noise from the outputs of one network in float32 and in float64."""
    errors = [_meaning_errors(spec, a, b) for a, b in zip(double, single, strict=True)]
    return Noise(max(e[0] for e in errors), max(e[1] for e in errors))


def compare(
    spec: ModelSpec,
    *,
    against: str,
    before: Sequence[Outputs],
    stage: str,
    after: Sequence[Outputs],
    noise: Noise | None = None,
) -> Rung:
    """Compare two stages on the same pictures.

    Args:
        spec: Contract of the raw outputs, the same for both stages.
        against: Name of the stage before.
        before: Its raw outputs, per picture.
        stage: Name of the stage that is judged.
        after: Its raw outputs, per picture.
        noise: Rounding noise of the network, which widens the tolerances where it exceeds them.

    Raises:
        CheckFailedError: The stages' outputs have different shapes.
    """
    names = spec.decode.output_names
    differences = []
    for i, name in enumerate(names):
        max_abs = max_rel = 0.0
        for a_all, b_all in zip(before, after, strict=True):
            a, b = np.asarray(a_all[i], np.float64), np.asarray(b_all[i], np.float64)
            if a.shape != b.shape:
                raise CheckFailedError(
                    f"parity {against} → {stage}: output {name}: expected shape {a.shape}, got {b.shape}"
                )
            difference = np.abs(a - b)
            max_abs = float(np.maximum(max_abs, difference.max()))
            max_rel = float(np.maximum(max_rel, (difference / np.maximum(1.0, np.abs(a))).max()))
        differences.append(OutputDifference(name, max_abs, max_rel))
    errors = [_meaning_errors(spec, a, b) for a, b in zip(before, after, strict=True)]
    floor = noise or Noise()
    return Rung(
        stage=stage,
        against=against,
        outputs=tuple(differences),
        score_error=float(np.max([e[0] for e in errors])),
        box_error_px=float(np.max([e[1] for e in errors])),
        score_tolerance=max(SCORE_TOLERANCE, NOISE_FACTOR * floor.score),
        box_tolerance_px=max(BOX_TOLERANCE_PX, NOISE_FACTOR * floor.box_px),
        images=len(before),
    )
