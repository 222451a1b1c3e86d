"""Ultra-Light-Fast-Generic-Face-Detector-1MB (Linzaer, MIT): RFB and slim, a megabyte, faces at 320 × 240.

An SSD of four levels with square priors and a softmax over background and face. The size that it was trained for is not
in a state dict; 320 × 240 is assumed, and any other can be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names
from edgedet_models.shape_family import Found, ShapeFamily, Tensors
from edgedet_models.ssd.face import RFB, SIZES_PX, SLIM, FaceWidths, UltraFace, read_face_widths
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "MIT"
FORMS = ("state dict",)
SIZES: Mapping[str, FaceWidths] = {"ultraface-rfb": RFB, "ultraface-slim": SLIM}
BIAS = "classification_headers.0.2.bias"


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[FaceWidths] | None:
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
    names = ("face",) if classes == 2 else class_names(None, classes - 1)
    kind = "with a receptive field block" if size.block else "slim"
    why = f"Ultra-Light face detector's keys, {kind}; assumed: 320 × 240 pixels, the official priors"
    return Found(size, names, why)


_FAMILY = ShapeFamily(
    "ultraface",
    "Ultra-Light face detector",
    "an Ultra-Light face detector's state dict",
    SIZES,
    UltraFace,
    _read,
)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
