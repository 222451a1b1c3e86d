"""The parity ladder: each stage of an export is compared with the one before it, on real pictures.

Two things are compared. Raw outputs, for the record: worst absolute and relative difference of each. And what they
mean, to judge: the scores of all candidates, and the boxes (in input pixels) of those that could ever be shown.

FP32 rungs must hold 1e-4 on scores and 0.02 px on boxes. float32 itself does not reach that on every network: where
the checkpoint in float32 already differs from itself in float64 by more, no rung can be asked for less than that
noise, so the tolerance is the larger of the two (`NOISE_FACTOR` times the noise), and the report says so.

Queries are a set: their rows are put into one order before they are compared, see `edgedet_export.alignment`.

The ladder ends at the written files, see `edgedet_export.written`. Their rungs hold raw outputs and detections too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgedet_export.alignment import align
from edgedet_models.decode import decode
from edgedet_runtime.bundle.rungs import Noise, OutputDifference, Rung
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec

__all__ = [
    "BOX_TOLERANCE_PX",
    "NOISE_FACTOR",
    "SCORE_TOLERANCE",
    "Outputs",
    "candidate_errors",
    "compare",
    "decode_candidates",
    "measure_noise",
    "output_differences",
    "within_reach",
]

SCORE_TOLERANCE = 1e-4
BOX_TOLERANCE_PX = 0.02
NOISE_FACTOR = 5.0
VISIBLE_SCORE = 0.01
"""Boxes are compared where the best score reaches this in either stage …"""
ALWAYS_COMPARED = 100
"""… and for this many best candidates in any case, so that an untrained network is judged too."""

Outputs = Sequence[npt.NDArray[Any]]
Array = npt.NDArray[Any]


def decode_candidates(spec: ModelSpec, raw: Outputs) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return boxes (M, 4) in input pixels, cut far outside, and scores (M, classes) of raw outputs, in float64."""
    boxes, scores = decode(spec, [torch.from_numpy(np.asarray(o, np.float64)) for o in raw])
    return within_reach(spec, boxes[0].numpy()), scores[0].numpy()


def within_reach(spec: ModelSpec, boxes: Array) -> Array:
    """Return boxes (M, 4) cut at the input where the runtime cuts before suppression, else further out, by its sides.

    Detections are cut at the picture, so that nothing beyond shows. Sizes that are exponentials without a bound
    (EfficientDet's) reach astronomical values there, on which rounding noise would be measured otherwise.
    """
    height, width = spec.input.size_hw
    side = np.array((width, height) * 2, np.float64)
    beyond = side * (spec.decode.clip == "after-nms")
    return np.clip(boxes, -beyond, side + beyond)


def _meaning_errors(spec: ModelSpec, before: Outputs, after: Outputs) -> tuple[float, float]:
    """Return the largest score difference, and the largest box difference of comparable candidates."""
    return candidate_errors(*decode_candidates(spec, before), *decode_candidates(spec, after))


def candidate_errors(boxes_a: Array, scores_a: Array, boxes_b: Array, scores_b: Array) -> tuple[float, float]:
    """Compare all candidates of two stages.

    Args:
        boxes_a: xyxy (M, 4) in input pixels, of the stage before.
        scores_a: (M, classes) in 0..1.
        boxes_b: As `boxes_a`, of the stage that is judged.
        scores_b: As `scores_a`.

    Returns:
        The largest score difference, and the largest box difference of comparable candidates in pixels.
    """
    best = np.maximum(scores_a.max(axis=1), scores_b.max(axis=1))
    top = np.argsort(-best, kind="stable")[:ALWAYS_COMPARED]
    compared = np.union1d(np.flatnonzero(best >= VISIBLE_SCORE), top)
    score_error = np.abs(scores_a - scores_b).max()
    return float(score_error), float(np.abs(boxes_a[compared] - boxes_b[compared]).max())


def measure_noise(spec: ModelSpec, single: Sequence[Outputs], double: Sequence[Outputs]) -> Noise:
    """Measure float32's rounding noise from the outputs of one network in float32 and in float64."""
    single = [align(spec, a, b) for a, b in zip(double, single, strict=True)]
    errors = [_meaning_errors(spec, a, b) for a, b in zip(double, single, strict=True)]
    raw = max(d.max_rel for d in output_differences(spec, double, single))
    return Noise(max(e[0] for e in errors), max(e[1] for e in errors), raw)


def output_differences(
    spec: ModelSpec, before: Sequence[Outputs], after: Sequence[Outputs], *, rung: str = "parity"
) -> tuple[OutputDifference, ...]:
    """Return how far each raw output is from the stage before, the worst of all pictures.

    Args:
        spec: Contract of the raw outputs.
        before: Raw outputs of the stage before, per picture.
        after: Raw outputs of the stage that is judged, per picture.
        rung: What is compared, for the message.

    Raises:
        CheckFailedError: The outputs have different shapes.
    """
    differences = []
    for i, name in enumerate(spec.decode.output_names):
        max_abs = max_rel = 0.0
        for a_all, b_all in zip(before, after, strict=True):
            a, b = np.asarray(a_all[i], np.float64), np.asarray(b_all[i], np.float64)
            if a.shape != b.shape:
                raise CheckFailedError(f"{rung}: output {name}: expected shape {a.shape}, got {b.shape}")
            difference = np.abs(a - b)
            max_abs = float(np.maximum(max_abs, difference.max()))
            max_rel = float(np.maximum(max_rel, (difference / np.maximum(1.0, np.abs(a))).max()))
        differences.append(OutputDifference(name, max_abs, max_rel))
    return tuple(differences)


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
    after = [align(spec, a, b) for a, b in zip(before, after, strict=True)]
    differences = output_differences(spec, before, after, rung=f"parity {against} → {stage}")
    errors = [_meaning_errors(spec, a, b) for a, b in zip(before, after, strict=True)]
    floor = noise or Noise()
    return Rung(
        stage=stage,
        against=against,
        outputs=differences,
        score_error=float(np.max([e[0] for e in errors])),
        box_error_px=float(np.max([e[1] for e in errors])),
        score_tolerance=max(SCORE_TOLERANCE, NOISE_FACTOR * floor.score),
        box_tolerance_px=max(BOX_TOLERANCE_PX, NOISE_FACTOR * floor.box_px),
        images=len(before),
    )
