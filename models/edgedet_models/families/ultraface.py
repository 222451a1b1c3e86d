"""Ultra-Light-Fast-Generic-Face-Detector-1MB (Linzaer, MIT): RFB and slim, a megabyte, faces at 320 × 240.

An SSD of four levels with square priors and a softmax over background and face. The size that it was trained for is not
in a state dict; 320 × 240 is assumed, and any other can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_models.ssd.face import RFB, SIZES_PX, SLIM, FaceWidths, UltraFace, read_face_widths
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "ultraface"
LICENCE = "MIT"
FORMS = ("state dict",)
SIZES: Mapping[str, FaceWidths] = {"ultraface-rfb": RFB, "ultraface-slim": SLIM}
BIAS = "classification_headers.0.2.bias"


def _build(variant: str, size: FaceWidths, classes: tuple[str, ...]) -> UltraFace:
    return UltraFace(variant, size, classes)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, size) for name, size in SIZES.items()
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize a state dict by the keys of its backbone and heads."""
    tensors = checkpoint.tensors()
    size = read_face_widths(tensors)
    if size is None or BIAS not in tensors:
        return None
    boxes = len(SIZES_PX[0])
    classes, left = divmod(len(tensors[BIAS]), boxes)
    if classes < 2 or left:
        raise CheckpointError(
            f"{checkpoint.path}: {BIAS}: expected {boxes} times background and classes, got {len(tensors[BIAS])}"
            " numbers; the file is damaged or of another kind"
        )
    variant = next((name for name, known in SIZES.items() if known == size), "custom")
    names = ("face",) if classes == 2 else class_names(None, classes - 1)
    kind = "with a receptive field block" if size.block else "slim"
    why = f"Ultra-Light face detector's keys, {kind}; assumed: 320 × 240 pixels, the official priors"
    return Recognition(FAMILY, variant, names, why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no such detector, or a tensor is missing, left over or misshapen.
    """
    recognition, size = recognise(checkpoint), read_face_widths(checkpoint.tensors())
    if recognition is None or size is None:
        raise CheckpointError(f"{checkpoint.path}: expected an Ultra-Light face detector's state dict, got other keys")
    detector = UltraFace(recognition.variant, size, recognition.classes)
    what = f"Ultra-Light face detector ({recognition.variant})"
    load_strict(detector, checkpoint.tensors(), path=checkpoint.path, what=what)
    return detector.eval()
