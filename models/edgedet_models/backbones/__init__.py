"""Light backbones by name: features at strides 8, 16 and 32, keys of the published ImageNet weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from edgedet_models.backbones.backbone import Backbone
from edgedet_models.backbones.efficientnet import EfficientNet
from edgedet_models.backbones.efficientnet_lite import EfficientNetLite
from edgedet_models.backbones.ghostnet import GhostNet
from edgedet_models.backbones.imagenet import load_imagenet
from edgedet_models.backbones.mnasnet import MnasNet
from edgedet_models.backbones.mobilenet_v1 import MobileNetV1
from edgedet_models.backbones.mobilenet_v2 import MobileNetV2
from edgedet_models.backbones.mobilenet_v3 import MobileNetV3
from edgedet_models.backbones.shufflenet_v1 import ShuffleNetV1
from edgedet_models.backbones.shufflenet_v2 import ShuffleNetV2
from edgedet_models.backbones.squeezenet import SqueezeNet

__all__ = ["BACKBONES", "Backbone", "BackboneKind", "load_imagenet"]


@dataclass(frozen=True, slots=True)
class BackboneKind:
    """A backbone that can be built at several widths.

    Attributes:
        build: Builds it at a width.
        width: Among `widths`, the one at which YOLOv5n with this backbone comes nearest to YOLOv5n's own size.
        widths: Widths that can be told from a state dict: those of published weights, and smaller ones.
        mark: A tensor by which a state dict is suspected to hold this backbone; the shapes decide.
    """

    build: Callable[[float], Backbone]
    width: float
    widths: tuple[float, ...]
    mark: str


_WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0)

BACKBONES: Mapping[str, BackboneKind] = {
    "mobilenetv1": BackboneKind(MobileNetV1, 0.5, _WIDTHS, "blocks.1.0.conv_dw.weight"),
    "mobilenetv2": BackboneKind(MobileNetV2, 0.75, (*_WIDTHS, 1.4), "features.1.conv.1.weight"),
    "mobilenetv3-small": BackboneKind(partial(MobileNetV3, "small"), 1.0, _WIDTHS, "features.1.block.0.0.weight"),
    "mobilenetv3-large": BackboneKind(partial(MobileNetV3, "large"), 0.5, _WIDTHS, "features.1.block.0.0.weight"),
    "shufflenetv1": BackboneKind(ShuffleNetV1, 1.0, (0.5, 1.0, 1.5, 2.0), "first_conv.0.weight"),
    "shufflenetv2": BackboneKind(ShuffleNetV2, 1.0, (0.5, 1.0, 1.5, 2.0), "stage2.0.branch1.0.weight"),
    "ghostnet": BackboneKind(GhostNet, 0.5, (0.5, 1.0, 1.3), "blocks.0.0.ghost1.primary_conv.0.weight"),
    "mnasnet": BackboneKind(MnasNet, 0.5, (0.5, 0.75, 1.0, 1.3), "layers.8.0.layers.0.weight"),
    "squeezenet": BackboneKind(lambda width: SqueezeNet(), 1.0, (1.0,), "features.3.squeeze.weight"),
    "efficientnet-b0": BackboneKind(EfficientNet, 0.5, (0.5, 1.0), "features.1.0.block.0.0.weight"),
    "efficientnet-lite0": BackboneKind(EfficientNetLite, 0.5, (0.5, 1.0), "blocks.1.0.conv_pwl.weight"),
}
