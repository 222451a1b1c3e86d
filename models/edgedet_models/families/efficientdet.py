"""EfficientDet (Apache-2.0) with effdet's keys: d0 to d2, TensorFlow's weights or PyTorch's, and lite0 to lite2.

Tan et al., "EfficientDet: Scalable and Efficient Object Detection", 2020, arXiv:1911.09070. Widths, depths and cells
are read off the shapes. A bias before BatchNorms marks weights from TensorFlow, and with it paddings and epsilons;
networks without gates are lite ones. Training files keep an average, which is taken. effdet counts classes from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.efficientdet.backbone import published
from edgedet_models.efficientdet.network import ANCHORS, BIAS, EfficientDet, EfficientDetShape, read_efficientdet
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "efficientdet"
LICENCE = "Apache-2.0"
FORMS = ("state dict",)


def _shape(number: int, *, lite: bool, tf: bool) -> EfficientDetShape:
    factors = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))[number]
    width = (64, 88, 112)[number]
    return EfficientDetShape(published(*factors, lite=lite), width, 3 + number, 3, tf=tf, fast=not lite)


SIZES: Mapping[str, tuple[EfficientDetShape, int]] = {
    **{f"efficientdet-d{i}": (_shape(i, lite=False, tf=False), 512 + 128 * i) for i in range(3)},
    **{f"tf-efficientdet-d{i}": (_shape(i, lite=False, tf=True), 512 + 128 * i) for i in range(3)},
    **{f"tf-efficientdet-lite{i}": (_shape(i, lite=True, tf=True), (320, 384, 512)[i]) for i in range(3)},
}
"""Shapes and the sides of the input; lite2's official 448 is no multiple of the coarsest stride, 512 is the next."""
OTHER_SIZE = 512


def _build(variant: str, shape: EfficientDetShape, size: int, classes: tuple[str, ...]) -> EfficientDet:
    return EfficientDet(variant, shape, classes, size)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, shape, size) for name, (shape, size) in SIZES.items()
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize a state dict by the keys of its backbone, neck and heads."""
    found = read_efficientdet(checkpoint.tensors())
    if found is None:
        return None
    shape, channels = found
    classes, left = divmod(channels, ANCHORS)
    if left or not classes:
        raise CheckpointError(
            f"{checkpoint.path}: {BIAS}: expected {ANCHORS} numbers per class, got {channels}; the anchors are not the"
            " official ones, or the file is damaged"
        )
    variant = next((name for name, (known, _) in SIZES.items() if known == shape), "custom")
    origin = "TensorFlow's paddings, eps 1e-3" if shape.tf else "symmetric paddings, eps 1e-5 (backbone) and 1e-3"
    kind = "lite (no gates, ReLU6)" if shape.backbone.lite else "with gates, SiLU"
    why = f"effdet's keys; {kind}; {shape.cells} BiFPN cells of {shape.width} channels; assumed: {origin}"
    return Recognition(FAMILY, variant, class_names(None, classes), why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no EfficientDet, or a tensor is missing, left over or misshapen.
    """
    recognition, found = recognise(checkpoint), read_efficientdet(checkpoint.tensors())
    if found is None or recognition is None:
        raise CheckpointError(f"{checkpoint.path}: expected an EfficientDet state dict, got other keys")
    size = SIZES[recognition.variant][1] if recognition.variant in SIZES else OTHER_SIZE
    detector = EfficientDet(recognition.variant, found[0], recognition.classes, size)
    tensors: Mapping[str, Tensor] = {n: t for n, t in checkpoint.tensors().items() if n != "anchors.boxes"}
    load_strict(detector, tensors, path=checkpoint.path, what=f"EfficientDet ({recognition.variant})")
    return detector.eval()
