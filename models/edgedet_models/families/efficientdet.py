"""EfficientDet (Apache-2.0) with effdet's keys: d0 to d2, TensorFlow's weights or PyTorch's, and lite0 to lite2.

Tan et al., "EfficientDet: Scalable and Efficient Object Detection", 2020, arXiv:1911.09070. Widths, depths and cells
are read off the shapes. A bias before BatchNorms marks weights from TensorFlow, and with it paddings and epsilons;
networks without gates are lite ones. Training files keep an average, which is taken. effdet counts classes from 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.efficientdet.backbone import published
from edgedet_models.efficientdet.network import ANCHORS, BIAS, EfficientDet, EfficientDetShape, read_efficientdet
from edgedet_models.layer_list.names import class_names
from edgedet_models.shape_family import Found, ShapeFamily, Tensors, left_out
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)


def _shape(number: int, *, lite: bool, tf: bool) -> EfficientDetShape:
    factors = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))[number]
    width = (64, 88, 112)[number]
    return EfficientDetShape(published(*factors, lite=lite), width, 3 + number, 3, tf=tf, fast=not lite)


SIZES: Mapping[str, EfficientDetShape] = {
    **{f"efficientdet-d{i}": _shape(i, lite=False, tf=False) for i in range(3)},
    **{f"tf-efficientdet-d{i}": _shape(i, lite=False, tf=True) for i in range(3)},
    **{f"tf-efficientdet-lite{i}": _shape(i, lite=True, tf=True) for i in range(3)},
}
SIDES = {"d0": 512, "d1": 640, "d2": 768, "lite0": 320, "lite1": 384, "lite2": 512}
"""Sides of the input; lite2's official 448 is no multiple of the coarsest stride, 512 is the next."""
OTHER_SIDE = 512


def _build(variant: str, shape: EfficientDetShape, classes: tuple[str, ...]) -> EfficientDet:
    return EfficientDet(variant, shape, classes, SIDES.get(variant.rpartition("-")[2], OTHER_SIDE))


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[EfficientDetShape] | None:
    found = read_efficientdet(tensors)
    if found is None:
        return None
    shape, channels = found
    classes, left = divmod(channels, ANCHORS)
    if left or not classes:
        raise CheckpointError(
            f"{checkpoint.path}: {BIAS}: expected {ANCHORS} numbers per class, got {channels}; the anchors are not the"
            " official ones, or the file is damaged"
        )
    origin = "TensorFlow's paddings, eps 1e-3" if shape.tf else "symmetric paddings, eps 1e-5 (backbone) and 1e-3"
    kind = "lite (no gates, ReLU6)" if shape.backbone.lite else "with gates, SiLU"
    why = f"effdet's keys; {kind}; {shape.cells} BiFPN cells of {shape.width} channels; assumed: {origin}"
    return Found(shape, class_names(None, classes), why)


_FAMILY = ShapeFamily(
    "efficientdet", "EfficientDet", "an EfficientDet state dict", SIZES, _build, _read, left_out("anchors.boxes")
)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
