"""BlazeFace (MediaPipe, Apache-2.0): faces with six keypoints, for front (128 px) and back cameras (256 px).

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019, arXiv:1907.05047; key names
of the PyTorch port. Keypoints are the eyes, the tip of the nose, the mouth, and the ears. Overlapping boxes are merged
into their mean, as the paper has it. Neither repository says how pictures are resized: edgedet keeps their aspect.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.blazeface.network import (
    ANCHORS,
    BACK,
    BACK_STRIDED,
    FRONT,
    FRONT_STRIDED,
    BlazeFace,
    BlazeWidths,
    read_blaze_widths,
)
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names
from edgedet_models.shape_family import Found, ShapeFamily, Tensors
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)
SIZES: Mapping[str, BlazeWidths] = {"blazeface-front": FRONT, "blazeface-back": BACK}
BIAS = "classifier_8.bias"


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[BlazeWidths] | None:
    size = read_blaze_widths(tensors)
    if size is None or BIAS not in tensors:
        return None
    strided = BACK_STRIDED if size.back else FRONT_STRIDED
    classes, left = divmod(len(tensors[BIAS]), ANCHORS[0])
    if left or not classes or len(size.fine) <= strided[-1]:
        raise CheckpointError(
            f"{checkpoint.path}: expected a BlazeFace with {ANCHORS[0]} scores per class and more than {strided[-1]}"
            f" blocks, got {len(tensors[BIAS])} scores and {len(size.fine)} blocks; the file is damaged"
        )
    camera = "back" if size.back else "front"
    why = f"BlazeFace keys, the {camera}-camera network; assumed: pictures keep their aspect, black around them"
    return Found(size, ("face",) if classes == 1 else class_names(None, classes), why)


_FAMILY = ShapeFamily("blazeface", "BlazeFace", "a BlazeFace state dict", SIZES, BlazeFace, _read)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
