"""Golden vectors: the bundle's own picture through the whole path, and a diagnosis where the boxes differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedet_runtime.bundle.golden import Golden
from edgedet_runtime.choices import EngineName
from edgedet_runtime.detections import Detections
from edgedet_runtime.detector import Detector
from edgedet_runtime.doctor.findings import Finding
from edgedet_runtime.doctor.matching import difference
from edgedet_runtime.errors import EdgedetError

__all__ = ["SAME_BOX_PX", "SAME_SCORE", "check_golden"]

SAME_BOX_PX, SAME_SCORE = 0.5, 0.01
"""What another CPU's arithmetic may change."""
CLOSE_BOX_PX, CLOSE_SCORE = 4.0, 0.1
"""What another precision changes; more is another network, picture or preprocessing."""

Image = npt.NDArray[np.uint8]


def check_golden(bundle: Path, file: str, engine: EngineName, golden: Golden, *, threads: int | None = None) -> Finding:
    """Run one file on one engine and compare with what it found where it was exported.

    Args:
        bundle: The folder.
        file: Path of the model file within it.
        engine: Name of the engine.
        golden: The bundle's golden vectors.
        threads: Threads of the engine.
    """
    check = f"golden {file} on {engine}"
    conf, expected = golden.expected[file]
    try:
        with Detector(bundle / file, engine=engine, threads=threads, conf=conf, trial="never") as detector:
            found = detector(golden.image_bgr)
            seen = difference(expected, found)
            if seen.within(box_px=SAME_BOX_PX, score=SAME_SCORE):
                if not len(found):
                    return Finding(check, "warning", "no objects, as expected, which proves little")
                return Finding(check, "ok", f"{len(found)} objects, {seen}")
            why = _diagnose(detector, golden, file, found)
            close = seen.within(box_px=CLOSE_BOX_PX, score=CLOSE_SCORE)
            return Finding(check, "warning" if close else "failure", f"{seen}; {why}")
    except EdgedetError as e:
        return Finding(check, "failure", str(e))


def _diagnose(detector: Detector, golden: Golden, file: str, found: Detections) -> str:
    """Try the usual suspects on what was found and say which one explains it."""
    _, expected = golden.expected[file]
    for other, (_, detections) in golden.expected.items():
        if other != file and difference(detections, found).within(box_px=SAME_BOX_PX, score=SAME_SCORE):
            return f"it gives what {other} gives: wrong file"
    suspects: dict[str, Callable[[Image], Image]] = {
        "with red and blue swapped it fits: color order": lambda image: image[..., ::-1],
        "upside down it fits: a flipped picture": lambda image: image[::-1],
        "mirrored it fits: a flipped picture": lambda image: image[:, ::-1],
    }
    for verdict, change in suspects.items():
        changed = detector(np.ascontiguousarray(change(golden.image_bgr)))
        if difference(expected, changed).within(box_px=SAME_BOX_PX, score=SAME_SCORE):
            return verdict
    seen = difference(expected, found)
    if seen.within(box_px=CLOSE_BOX_PX, score=CLOSE_SCORE):
        return "the same objects, less exactly: the precision of this engine or CPU"
    if seen.missing == len(expected) and len(expected):
        return "nothing of what was expected: another network, or weights of another"
    return "neither color order, nor flipping, nor another file of the bundle explains it"
