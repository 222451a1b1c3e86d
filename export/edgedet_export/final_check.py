"""The last check of an export: every FP32 file, through the device's own runtime, gives the ladder's detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_export.parity import BOX_TOLERANCE_PX, NOISE_FACTOR, SCORE_TOLERANCE, Noise
from edgedet_runtime import Detector
from edgedet_runtime.detections import Detections
from edgedet_runtime.doctor.matching import match
from edgedet_runtime.errors import CheckFailedError

__all__ = ["check_detections", "detections_differ"]

Image = npt.NDArray[np.uint8]


def detections_differ(
    expected: Detections, got: Detections, *, box_px: float, score: float, unsure: Sequence[float] = ()
) -> str | None:
    """Compare two sets of detections of one picture.

    Args:
        expected: What should be there.
        got: What is there.
        box_px: Tolerance on each coordinate, pixels of the picture.
        score: Tolerance on scores.
        unsure: Detections whose score is within `score` of one of these thresholds may be missing or extra.

    Returns:
        The first difference as a phrase, or None.
    """
    apart_px = np.abs(expected.boxes_xyxy[:, None] - got.boxes_xyxy[None]).max(axis=2, initial=0.0)
    apart = np.abs(expected.scores[:, None].astype(np.float64) - got.scores[None])
    matching = match(expected, got, ((apart_px <= box_px) & (apart <= score)).astype(np.float32))
    for words, of, left in (("no match for", expected, matching.missing), ("an extra", got, matching.extra)):
        for i in left:
            if all(abs(float(of.scores[i]) - threshold) > score for threshold in unsure):
                name = of.names[int(of.class_ids[i])]
                return f"{words} {name} {of.scores[i]:.4f} at {np.round(of.boxes_xyxy[i], 2).tolist()}"
    return None


def check_detections(
    folder: Path, files: Sequence[Mapping[str, Any]], images: Sequence[Image], reference: Path, noise: Noise
) -> None:
    """Run each FP32 file with `Detector` on its engine and compare with the raw heads decoded by the runtime.

    Args:
        folder: The bundle.
        files: Its model files: path, precision, engines.
        images: Pictures.
        reference: The ONNX model with raw heads that stands last in the ladder.
        noise: Rounding noise of the network, which widens the tolerances where it exceeds them.

    Raises:
        CheckFailedError: A file's detections differ.
    """
    box_px = max(BOX_TOLERANCE_PX, NOISE_FACTOR * noise.box_px)
    score = max(SCORE_TOLERANCE, NOISE_FACTOR * noise.score)
    for image in images:
        with Detector(reference, engine="onnxruntime", threads=1) as detector:
            limits = detector.spec.thresholds
            expected = detector(image)
            _, letterbox = detector.preprocess(image)
        pixels = box_px / min(letterbox.gain_xy)
        unsure = [limits.conf]
        if len(expected) == limits.max_det:  # which of many equals come before the cut is a matter of rounding
            unsure.append(float(expected.scores[-1]))
        for file in files:
            if file["precision"] != "fp32":
                continue
            with Detector(folder / file["path"], engine=file["engines"][0], threads=1) as detector:
                difference = detections_differ(expected, detector(image), box_px=pixels, score=score, unsure=unsure)
            if difference is not None:
                raise CheckFailedError(
                    f"{file['path']} on {file['engines'][0]}: expected the detections of the raw heads, got"
                    f" {difference}; nothing was written"
                )
