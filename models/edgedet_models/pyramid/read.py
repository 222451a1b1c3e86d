"""What torchvision's dense detectors have in common when they are read from a state dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from edgedet_models.backbones.resnet import RESNETS, ResNetShape, read_resnet
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.names import class_names
from edgedet_models.pyramid.dense import DenseShape
from edgedet_models.pyramid.fpn import new_keys, read_pyramid
from edgedet_runtime.errors import CheckpointError

__all__ = ["DenseFamily", "published", "read_dense"]

CLASSES = "head.classification_head.cls_logits.bias"
D = TypeVar("D", bound=DetectorModule)


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


@dataclass(frozen=True, slots=True)
class DenseFamily(Generic[D]):
    """One of the two families.

    Attributes:
        name: Registry name.
        title: What messages call it.
        build: Makes the detector: variant, shape, class names.
        sizes: Published shapes by variant.
        mark: A tensor that this family has, by its new name.
        without: A tensor that it does not have.
        anchors: Boxes of a cell.
        norm_key: The first GroupNorm's gain, where there is one.
    """

    name: str
    title: str
    build: Callable[[str, DenseShape, tuple[str, ...]], D]
    sizes: Mapping[str, DenseShape]
    mark: str
    without: str
    anchors: int
    norm_key: str

    def recognise(self, checkpoint: Checkpoint) -> Recognition | None:
        """Recognize a state dict by the keys of its backbone and heads, old or new ones."""
        found = self._find(checkpoint)
        if found is None:
            return None
        shape, classes = found
        variant = next((name for name, known in self.sizes.items() if known == shape), "custom")
        kind = "bottlenecks" if shape.body.bottleneck else "basic blocks"
        why = (
            f"torchvision's {self.title} keys; ResNet of {kind} {[s.blocks for s in shape.body.stages]}; {classes}"
            " outputs, the first of which torchvision never trains; assumed: BatchNorm eps 1e-5 (its COCO_V1 RetinaNet"
            " was trained with 0)"
        )
        return Recognition(self.name, variant, class_names(None, classes), why)

    def load(self, checkpoint: Checkpoint) -> DetectorModule:
        """Build the detector that the shapes describe and load it strictly.

        Raises:
            CheckpointError: The file is none of this family, or a tensor is missing, left over or misshapen.
        """
        recognition, found = self.recognise(checkpoint), self._find(checkpoint)
        if found is None or recognition is None:
            raise CheckpointError(f"{checkpoint.path}: expected torchvision's {self.title} state dict, got other keys")
        detector = self.build(recognition.variant, found[0], recognition.classes)
        what = f"torchvision's {self.title} ({recognition.variant})"
        load_strict(detector, new_keys(checkpoint.tensors()), path=checkpoint.path, what=what)
        return detector.eval()

    def _find(self, checkpoint: Checkpoint) -> tuple[DenseShape, int] | None:
        """Return the shape and the number of outputs per anchor."""
        tensors = checkpoint.tensors()
        if self.mark not in tensors or self.without in tensors or CLASSES not in tensors:
            return None
        tensors = new_keys(tensors)
        shape = read_dense(tensors, self.norm_key)
        if shape is None:
            return None
        classes, left = divmod(len(tensors[CLASSES]), self.anchors)
        if left or not classes:
            raise CheckpointError(
                f"{checkpoint.path}: {CLASSES}: expected {self.anchors} numbers per class, got {len(tensors[CLASSES])};"
                " the anchors are not torchvision's, or the file is damaged"
            )
        return shape, classes
