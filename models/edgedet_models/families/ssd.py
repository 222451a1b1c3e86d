"""SSD as torchvision has it (BSD-3-Clause): SSD300-VGG16 and SSDLite320-MobileNetV3-Large, and other widths of them.

Liu et al., "SSD: Single Shot MultiBox Detector", 2016, arXiv:1512.02325. torchvision counts background as class 0;
edgedet's classes are those after it. Neither names nor the default boxes are in a state dict: default boxes are the
official ones, of a square of 300 or 320 pixels to which pictures are stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_models.ssd.lite import BOXES as LITE_BOXES
from edgedet_models.ssd.lite import FULL_TAIL, REDUCED_TAIL, LiteWidths, SsdLite, read_lite_widths
from edgedet_models.ssd.vgg import BOXES, SSD300, Ssd, SsdWidths, read_widths
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "ssd"
LICENCE = "BSD-3-Clause"
FORMS = ("state dict",)
SIZES: Mapping[str, SsdWidths | LiteWidths] = {
    "ssd300-vgg16": SSD300,
    "ssdlite320-mobilenetv3": REDUCED_TAIL,
    "ssdlite320-mobilenetv3-full": FULL_TAIL,
}
BIASES = {
    "head.classification_head.module_list.0.bias": BOXES.per_cell()[0],
    "head.classification_head.module_list.0.1.bias": LITE_BOXES.per_cell()[0],
}
"""Where the number of classes is read, and the default boxes of a cell there."""


def _build(variant: str, size: SsdWidths | LiteWidths, classes: tuple[str, ...]) -> Ssd | SsdLite:
    return Ssd(variant, size, classes) if isinstance(size, SsdWidths) else SsdLite(variant, size, classes)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, size) for name, size in SIZES.items()
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize a state dict by the keys of its backbone and heads."""
    found = _find(checkpoint)
    if found is None:
        return None
    size, classes = found
    variant = next((name for name, known in SIZES.items() if known == size), "custom")
    kind = "SSD300-VGG16" if isinstance(size, SsdWidths) else "SSDLite320-MobileNetV3"
    why = f"torchvision's {kind} keys; {classes} classes and background; assumed: the official default boxes"
    if isinstance(size, LiteWidths):
        why += ", BatchNorm eps 1e-3"
    return Recognition(FAMILY, variant, class_names(None, classes), why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no SSD of torchvision's, or a tensor is missing, left over or misshapen.
    """
    recognition, found = recognise(checkpoint), _find(checkpoint)
    if found is None or recognition is None:
        raise CheckpointError(f"{checkpoint.path}: expected an SSD300 or SSDLite state dict, got other keys")
    detector = _build(recognition.variant, found[0], recognition.classes)
    what = f"torchvision's SSD ({recognition.variant})"
    load_strict(detector, checkpoint.tensors(), path=checkpoint.path, what=what)
    return detector.eval()


def _find(checkpoint: Checkpoint) -> tuple[SsdWidths | LiteWidths, int] | None:
    """Return the widths and the number of classes without background."""
    tensors: Mapping[str, Tensor] = checkpoint.tensors()
    size = read_widths(tensors) or read_lite_widths(tensors)
    if size is None:
        return None
    for name, boxes in BIASES.items():
        if name in tensors:
            classes, left = divmod(len(tensors[name]), boxes)
            if classes < 2 or left:
                raise CheckpointError(
                    f"{checkpoint.path}: {name}: expected {boxes} times background and classes, got"
                    f" {len(tensors[name])} numbers; the default boxes are not torchvision's, or the file is damaged"
                )
            return size, classes - 1
    return None
