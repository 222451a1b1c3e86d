"""CenterNet on a ResNet with three transposed convolutions, with the key names of its authors' code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedet_models.backbones.resnet import ResNet, ResNetShape, read_resnet, run_resnet
from edgedet_models.detector import DetectorModule
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["CenterNet", "CenterNetShape", "centernet_head", "centernet_spec", "read_body", "read_heads"]

SIZE = 512
STRIDE = 4
MEAN_BGR, STD_BGR = (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835)


@dataclass(frozen=True, slots=True)
class CenterNetShape:
    """What distinguishes one CenterNet from another.

    Attributes:
        body: The ResNet.
        up: Channels of the transposed convolutions.
        head: Channels of the heads' 3×3 convolution; 0 where a head is one 1×1 convolution.
        offsets: Whether there is a head for where a center lies within its cell.
    """

    body: ResNetShape
    up: tuple[int, ...] = (256, 256, 256)
    head: int = 64
    offsets: bool = True


def centernet_head(c_in: int, inner: int, c_out: int) -> nn.Module:
    """Return a head: a 3×3 and a 1×1 convolution, or only the second where `inner` is 0."""
    if not inner:
        return nn.Conv2d(c_in, c_out, 1)
    return nn.Sequential(nn.Conv2d(c_in, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, c_out, 1))


class CenterNet(DetectorModule):
    """A CenterNet detector; the ResNet's parts lie at the top, as in the official files."""

    def __init__(self, variant: str, shape: CenterNetShape, classes: tuple[str, ...]) -> None:
        """Build an untrained detector."""
        super().__init__(centernet_spec(variant, classes, offsets=shape.offsets))
        self.stride = 32
        for name, part in ResNet(shape.body).named_children():
            self.add_module(name, part)
        layers: list[nn.Module] = []
        c = shape.body.channels[-1]
        for width in shape.up:
            layers += [nn.ConvTranspose2d(c, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            c = width
        self.deconv_layers = nn.Sequential(*layers)
        self.hm = centernet_head(c, shape.head, len(classes))
        self.wh = centernet_head(c, shape.head, 2)
        self.reg: nn.Module | None = centernet_head(c, shape.head, 2) if shape.offsets else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return offset and size (N, 4, h, w) in cells, and class logits (N, classes, h, w)."""
        x = self.deconv_layers(run_resnet(self, x)[-1])
        size = self.wh(x)
        offset = torch.zeros_like(size) if self.reg is None else self.reg(x)
        return torch.cat((offset, size), dim=1), self.hm(x)


def centernet_spec(variant: str, classes: tuple[str, ...], *, offsets: bool) -> ModelSpec:
    """Return the contract of a CenterNet, whatever its backbone."""
    level = LevelSpec(STRIDE, "boxes", "scores", anchors_px=((float(STRIDE), float(STRIDE)),))
    return ModelSpec(
        family="centernet",
        variant=variant,
        input=InputSpec(
            "images", SIZE, SIZE, layout="NCHW", dtype="float32", color="BGR", scale=1 / 255, mean=MEAN_BGR, std=STD_BGR
        ),
        resize=ResizeSpec("letterbox", pad_bgr=(0, 0, 0)),
        decode=DecodeSpec(
            "priors",
            (level,),
            "cls",
            cell_offset=0.0 if offsets else 0.5,
            suppression="none",
            unit_xy=(float(SIZE), float(SIZE)),
            priors=PriorSpec("linear"),
            peaks=True,
        ),
        classes=classes,
        thresholds=Thresholds(conf=0.3, max_det=100, multi_label=True),
        licence="MIT",
    )


def read_heads(tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the classes, and the channels of the sizes' head; None where the heads are not there."""
    last = [tensors.get(f"{name}.2.weight", tensors.get(f"{name}.weight")) for name in ("hm", "wh")]
    return None if last[0] is None or last[1] is None else (len(last[0]), len(last[1]))


def read_body(tensors: Mapping[str, Tensor]) -> CenterNetShape | None:
    """Read the shape off the tensors; None where the ResNet is not there."""
    body = read_resnet(tensors, "")
    if body is None:
        return None
    names = [n for n in tensors if re.fullmatch(r"deconv_layers\.\d+\.weight", n) and tensors[n].dim() == 4]
    up = tuple(tensors[n].shape[1] for n in sorted(names, key=lambda n: int(n.split(".")[1])))
    head = tensors.get("hm.0.weight")
    offsets = "reg.2.weight" in tensors or "reg.weight" in tensors
    return CenterNetShape(body, up, 0 if head is None else len(head), offsets)
