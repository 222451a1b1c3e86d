"""CenterNet (xingyizhou, MIT) on ResNets and DLA-34, any widths, without deformable convolutions.

Zhou et al., "Objects as Points", 2019, arXiv:1904.07850. A cell whose logit is the highest of the nine around it is an
object; the best are the detections, nothing is suppressed. Files with deformable convolutions (``dla_34``,
``resdcn``) and with sizes per class are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from edgedet_models.backbones.dla import UNUSED
from edgedet_models.backbones.resnet import RESNETS
from edgedet_models.centernet.dla import CenterNetDla, DlaShape, read_dla_centernet
from edgedet_models.centernet.network import CenterNet, CenterNetShape, read_body, read_heads
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "centernet"
LICENCE = "MIT"
FORMS = ("state dict",)
Shape = CenterNetShape | DlaShape
SIZES: Mapping[str, Shape] = {
    **{f"centernet-{body}": CenterNetShape(shape) for body, shape in RESNETS.items()},
    "centernet-dlav0-34": DlaShape(),
}
DEFORMABLE = "conv_offset_mask.weight"


def _build(variant: str, shape: Shape, classes: tuple[str, ...]) -> DetectorModule:
    if isinstance(shape, DlaShape):
        return CenterNetDla(variant, shape, classes)
    return CenterNet(variant, shape, classes)


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, shape) for name, shape in SIZES.items()
}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize a state dict by the keys of its backbone and heads."""
    tensors = checkpoint.tensors()
    shape, heads = _shape(checkpoint), read_heads(tensors)
    if shape is None or heads is None:
        return None
    classes, sizes = heads
    if any(name.endswith(DEFORMABLE) for name in tensors):
        raise CheckpointError(
            f"{checkpoint.path}: expected a CenterNet of plain convolutions, got one with deformable convolutions"
            " (DCNv2), which edgedet does not build; export it with its own code"
        )
    if sizes != 2:
        raise CheckpointError(
            f"{checkpoint.path}: expected a CenterNet with one width and height per cell, got {sizes} numbers"
            " (cat_spec_wh), which edgedet does not decode"
        )
    variant = next((name for name, known in SIZES.items() if known == shape), "custom")
    where = "offsets within cells" if shape.offsets else "no offsets, centers in the middle of cells"
    body = "DLA-34" if isinstance(shape, DlaShape) else f"ResNet blocks {[s.blocks for s in shape.body.stages]}"
    why = f"CenterNet keys; {body}; {where}; assumed: BGR, its own mean"
    return Recognition(FAMILY, variant, class_names(None, classes), why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no such CenterNet, or a tensor is missing, left over or misshapen.
    """
    recognition, shape = recognise(checkpoint), _shape(checkpoint)
    if shape is None or recognition is None:
        raise CheckpointError(
            f"{checkpoint.path}: expected a CenterNet state dict on a ResNet or DLA-34, got other keys"
        )
    detector = _build(recognition.variant, shape, recognition.classes)
    tensors = {name: t for name, t in checkpoint.tensors().items() if not name.startswith(UNUSED)}
    load_strict(detector, tensors, path=checkpoint.path, what=f"CenterNet ({recognition.variant})")
    return detector.eval()


def _shape(checkpoint: Checkpoint) -> Shape | None:
    tensors = checkpoint.tensors()
    return read_body(tensors) or read_dla_centernet(tensors)
