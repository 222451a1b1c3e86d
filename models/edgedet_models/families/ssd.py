"""SSD as torchvision has it (BSD-3-Clause): SSD300-VGG16 and SSDLite320-MobileNetV3-Large, and other widths of them.

Liu et al., "SSD: Single Shot MultiBox Detector", 2016, arXiv:1512.02325. torchvision counts background as class 0;
edgedet's classes are those after it. Neither names nor the default boxes are in a state dict: default boxes are the
official ones, of a square of 300 or 320 pixels to which pictures are stretched.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names
from edgedet_models.shape_family import Found, ShapeFamily, Tensors
from edgedet_models.ssd.lite import BOXES as LITE_BOXES
from edgedet_models.ssd.lite import FULL_TAIL, REDUCED_TAIL, LiteWidths, SsdLite, read_lite_widths
from edgedet_models.ssd.vgg import BOXES, SSD300, Ssd, SsdWidths, read_widths
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "BSD-3-Clause"
FORMS = ("state dict",)
Widths = SsdWidths | LiteWidths
SIZES: Mapping[str, Widths] = {
    "ssd300-vgg16": SSD300,
    "ssdlite320-mobilenetv3": REDUCED_TAIL,
    "ssdlite320-mobilenetv3-full": FULL_TAIL,
}
BIASES = {
    "head.classification_head.module_list.0.bias": BOXES.per_cell()[0],
    "head.classification_head.module_list.0.1.bias": LITE_BOXES.per_cell()[0],
}
"""Where the number of classes is read, and the default boxes of a cell there."""


def _build(variant: str, size: Widths, classes: tuple[str, ...]) -> Ssd | SsdLite:
    return Ssd(variant, size, classes) if isinstance(size, SsdWidths) else SsdLite(variant, size, classes)


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[Widths] | None:
    size = read_widths(tensors) or read_lite_widths(tensors)
    name = next((name for name in BIASES if name in tensors), None)
    if size is None or name is None:
        return None
    classes, left = divmod(len(tensors[name]), BIASES[name])
    if classes < 2 or left:
        raise CheckpointError(
            f"{checkpoint.path}: {name}: expected {BIASES[name]} times background and classes, got"
            f" {len(tensors[name])} numbers; the default boxes are not torchvision's, or the file is damaged"
        )
    kind = "SSD300-VGG16" if isinstance(size, SsdWidths) else "SSDLite320-MobileNetV3"
    why = f"torchvision's {kind} keys; {classes - 1} classes and background; assumed: the official default boxes"
    if isinstance(size, LiteWidths):
        why += ", BatchNorm eps 1e-3"
    return Found(size, class_names(None, classes - 1), why)


_FAMILY = ShapeFamily("ssd", "torchvision's SSD", "an SSD300 or SSDLite state dict", SIZES, _build, _read)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
