"""What torchvision's dense detectors have in common when they are read from a state dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from edgedet_models.backbones.resnet import RESNETS, ResNetShape, read_resnet
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.layer_list.names import class_names
from edgedet_models.pyramid.dense import DenseShape
from edgedet_models.pyramid.fpn import new_keys, read_pyramid
from edgedet_models.shape_family import Found, ShapeFamily, Tensors
from edgedet_runtime.errors import CheckpointError

__all__ = ["dense_family", "published", "read_dense"]

CLASSES = "head.classification_head.cls_logits.bias"


def published(body: str, *, norm: bool = False, from_c5: bool = False) -> DenseShape:
    """Return the shape of a detector on a published ResNet, with torchvision's pyramid of 256 channels."""
    shape = RESNETS[body]
    return DenseShape(shape, 256, shape.channels[-1] if from_c5 else 256, norm=norm)


def read_dense(tensors: Mapping[str, Tensor], norm_key: str) -> DenseShape | None:
    """Read the shape of a detector off its tensors, by new names; None where pyramid or body are not there."""
    body: ResNetShape | None = read_resnet(tensors, "backbone.body.")
    pyramid = read_pyramid(tensors)
    if body is None or pyramid is None:
        return None
    tower = "head.classification_head.conv."
    convs = [n for n, t in tensors.items() if n.startswith(tower) and t.dim() == 4]
    return DenseShape(body, *pyramid, convs=len(convs), norm=norm_key in tensors)


def dense_family(
    name: str,
    title: str,
    build: Callable[[str, DenseShape, tuple[str, ...]], DetectorModule],
    sizes: Mapping[str, DenseShape],
    *,
    mark: str,
    without: str,
    anchors: int,
    norm_key: str,
) -> ShapeFamily[DenseShape]:
    """Return one of the two families.

    Args:
        name: Registry name.
        title: What messages call it.
        build: Makes the detector: variant, shape, class names.
        sizes: Published shapes by variant.
        mark: A tensor that this family has, by its new name.
        without: A tensor that it does not have.
        anchors: Boxes of a cell.
        norm_key: The first GroupNorm's gain, where there is one.
    """

    def read(checkpoint: Checkpoint, tensors: Tensors) -> Found[DenseShape] | None:
        if mark not in tensors or without in tensors or CLASSES not in tensors:
            return None
        shape = read_dense(new_keys(tensors), norm_key)
        if shape is None:
            return None
        classes, left = divmod(len(tensors[CLASSES]), anchors)
        if left or not classes:
            raise CheckpointError(
                f"{checkpoint.path}: {CLASSES}: expected {anchors} numbers per class, got {len(tensors[CLASSES])};"
                " the anchors are not torchvision's, or the file is damaged"
            )
        kind = "bottlenecks" if shape.body.bottleneck else "basic blocks"
        why = (
            f"torchvision's {title} keys; ResNet of {kind} {[s.blocks for s in shape.body.stages]}; {classes}"
            " outputs, the first of which torchvision never trains; assumed: BatchNorm eps 1e-5 (its COCO_V1 RetinaNet"
            " was trained with 0)"
        )
        return Found(shape, class_names(None, classes), why)

    whose = f"torchvision's {title}"
    return ShapeFamily(name, whose, f"{whose} state dict", sizes, build, read, new_keys)
