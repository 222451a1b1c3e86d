"""CenterNet (xingyizhou, MIT) on ResNets and DLA-34, any widths, without deformable convolutions.

Zhou et al., "Objects as Points", 2019, arXiv:1904.07850. A cell whose logit is the highest of the nine around it is an
object; the best are the detections, nothing is suppressed. Files with deformable convolutions (``dla_34``,
``resdcn``) and with sizes per class are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.backbones.dla import UNUSED
from edgedet_models.backbones.resnet import RESNETS
from edgedet_models.centernet.dla import CenterNetDla, DlaShape, read_dla_centernet
from edgedet_models.centernet.network import CenterNet, CenterNetShape, read_body, read_heads
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.layer_list.names import class_names
from edgedet_models.shape_family import Found, ShapeFamily, Tensors, left_out
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "MIT"
FORMS = ("state dict",)
Shape = CenterNetShape | DlaShape
SIZES: Mapping[str, Shape] = {
    **{f"centernet-{body}": CenterNetShape(shape) for body, shape in RESNETS.items()},
    "centernet-dlav0-34": DlaShape(),
}
DEFORMABLE = "conv_offset_mask.weight"


def _build(variant: str, shape: Shape, classes: tuple[str, ...]) -> CenterNet | CenterNetDla:
    if isinstance(shape, DlaShape):
        return CenterNetDla(variant, shape, classes)
    return CenterNet(variant, shape, classes)


def _read(checkpoint: Checkpoint, tensors: Tensors) -> Found[Shape] | None:
    shape, heads = read_body(tensors) or read_dla_centernet(tensors), read_heads(tensors)
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
    where = "offsets within cells" if shape.offsets else "no offsets, centers in the middle of cells"
    body = "DLA-34" if isinstance(shape, DlaShape) else f"ResNet blocks {[s.blocks for s in shape.body.stages]}"
    why = f"CenterNet keys; {body}; {where}; assumed: BGR, its own mean"
    return Found(shape, class_names(None, classes), why)


_FAMILY = ShapeFamily(
    "centernet",
    "CenterNet",
    "a CenterNet state dict on a ResNet or DLA-34",
    SIZES,
    _build,
    _read,
    left_out(*UNUSED),
)
VARIANTS, recognise, load = _FAMILY.builders(), _FAMILY.recognise, _FAMILY.load
