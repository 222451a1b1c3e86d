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
from edgedet_runtime.errors import CheckFailedError

__all__ = ["check_detections", "detections_differ"]

Image = npt.NDArray[np.uint8]


def detections_differ(
    expected: Detections, got: Detections, *, box_px: float, score: float, unsure: float | None = None
) -> str | None:
    """Compare two sets of detections of one picture.

    Args:
        expected: What should be there.
        got: What is there.
        box_px: Tolerance on each coordinate, pixels of the picture.
        score: Tolerance on scores.
        unsure: Detections whose score is within `score` of this threshold may be missing or extra.

    Returns:
        The first difference as a phrase, or None.
    """
    left = list(range(len(got)))
    for i in range(len(expected)):
        near = [
            j
            for j in left
            if got.class_ids[j] == expected.class_ids[i]
            and np.abs(got.boxes_xyxy[j] - expected.boxes_xyxy[i]).max() <= box_px
            and abs(float(got.scores[j]) - float(expected.scores[i])) <= score
        ]
        if near:
            left.remove(near[0])
        elif unsure is None or abs(float(expected.scores[i]) - unsure) > score:
            name = expected.names[int(expected.class_ids[i])]
            return f"no match for {name} {expected.scores[i]:.4f} at {np.round(expected.boxes_xyxy[i], 2).tolist()}"
    for j in left:
        if unsure is None or abs(float(got.scores[j]) - unsure) > score:
            name = got.names[int(got.class_ids[j])]
            return f"an extra {name} {got.scores[j]:.4f} at {np.round(got.boxes_xyxy[j], 2).tolist()}"
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
            conf = detector.spec.thresholds.conf
            expected = detector(image)
            _, letterbox = detector.preprocess(image)
        pixels = box_px / min(letterbox.gain_xy)
        for file in files:
            if file["precision"] != "fp32":
                continue
            with Detector(folder / file["path"], engine=file["engines"][0], threads=1) as detector:
                difference = detections_differ(expected, detector(image), box_px=pixels, score=score, unsure=conf)
            if difference is not None:
                raise CheckFailedError(
                    f"{file['path']} on {file['engines'][0]}: expected the detections of the raw heads, got"
                    f" {difference}; nothing was written"
                )
