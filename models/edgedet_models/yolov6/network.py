"""YOLOv6's backbones, necks and head, and the detector made of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_models.yolov6.composite import Composite, PartsError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

__all__ = ["Backbone", "Head", "LiteBackbone", "LiteNeck", "PanNeck", "YoloV6"]

LICENCE = "GPL-3.0"


class Backbone(Composite):
    """EfficientRep and CSPBepBackbone, with a sixth stage in the P6 models."""

    stem: nn.Module
    ERBlock_2: nn.Module
    ERBlock_3: nn.Module
    ERBlock_4: nn.Module
    ERBlock_5: nn.Module
    ERBlock_6: nn.Module | None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return features of strides 4, 8, 16, 32 and, with a sixth stage, 64."""
        features = []
        x = self.stem(x)
        for stage in (self.ERBlock_2, self.ERBlock_3, self.ERBlock_4, self.ERBlock_5, self.ERBlock_6):
            if stage is not None:
                x = stage(x)
                features.append(x)
        return features


class PanNeck(nn.Module):
    """RepPAN and RepBiFPAN, plain and CSP, for three and four levels: coarse to fine, then back.

    RepPAN joins a feature with the enlarged coarser one; RepBiFPAN (``Bifusion``) with the finer one as well.
    """

    def __init__(self, **parts: nn.Module) -> None:
        """Keep the parts under their official names.

        Raises:
            PartsError: A part is missing, or one is not known.
        """
        super().__init__()
        self.steps = sum(name.startswith("reduce_layer") for name in parts)
        n = self.steps
        if n not in (2, 3):
            raise PartsError(f"expected two or three reduce layers, got {n}")
        self.join = "Bifusion" if "Bifusion0" in parts else "upsample"
        self.down_names = [f"Rep_p{n + 2 - k}" for k in range(n)]
        self.up_names = [f"Rep_n{k + (3 if n == 2 else 4)}" for k in range(n)]
        self.downsample_names = [f"downsample{k}" for k in ((2, 1) if n == 2 else (2, 1, 0))]
        expected = [
            *(f"{prefix}{k}" for prefix in ("reduce_layer", self.join) for k in range(n)),
            *self.down_names,
            *self.up_names,
            *self.downsample_names,
        ]
        wrong = sorted(set(expected) ^ set(parts))
        if wrong:
            raise PartsError(f"submodule {wrong[0]!r} is missing or not expected")
        for name, part in parts.items():
            self.add_module(name, part)

    def _step(self, name: str, *inputs: Tensor) -> Tensor:
        out: Tensor = self.get_submodule(name)(*inputs)
        return out

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map the backbone's features, finest first, to those of the head, finest first."""
        coarse_first = features[::-1]
        y, laterals = coarse_first[0], []
        for k, name in enumerate(self.down_names):
            lateral = self._step(f"reduce_layer{k}", y)
            laterals.append(lateral)
            if self.join == "Bifusion":
                joined = self._step(f"Bifusion{k}", lateral, coarse_first[k + 1], coarse_first[k + 2])
            else:
                joined = torch.cat((self._step(f"upsample{k}", lateral), coarse_first[k + 1]), dim=1)
            y = self._step(name, joined)
        outputs = [y]
        for name, down, lateral in zip(self.up_names, self.downsample_names, reversed(laterals), strict=True):
            y = self._step(name, torch.cat((self._step(down, y), lateral), dim=1))
            outputs.append(y)
        return outputs


class LiteBackbone(Composite):
    """Lite_EffiBackbone."""

    conv_0: nn.Module
    lite_effiblock_1: nn.Module
    lite_effiblock_2: nn.Module
    lite_effiblock_3: nn.Module
    lite_effiblock_4: nn.Module

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return features of strides 8, 16 and 32."""
        p3 = self.lite_effiblock_2(self.lite_effiblock_1(self.conv_0(x)))
        p4 = self.lite_effiblock_3(p3)
        return [p3, p4, self.lite_effiblock_4(p4)]


class LiteNeck(Composite):
    """Lite_EffiNeck: path aggregation with a fourth level made by depthwise convolutions."""

    reduce_layer0: nn.Module
    reduce_layer1: nn.Module
    reduce_layer2: nn.Module
    upsample0: nn.Module
    upsample1: nn.Module
    Csp_p4: nn.Module
    Csp_p3: nn.Module
    Csp_n3: nn.Module
    Csp_n4: nn.Module
    downsample2: nn.Module
    downsample1: nn.Module
    p6_conv_1: nn.Module
    p6_conv_2: nn.Module

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map three features to four, finest first."""
        p3, p4, p5 = features
        top = self.reduce_layer0(p5)
        middle = self.Csp_p4(torch.cat((self.upsample0(top), self.reduce_layer1(p4)), dim=1))
        n3 = self.Csp_p3(torch.cat((self.upsample1(middle), self.reduce_layer2(p3)), dim=1))
        n4 = self.Csp_n3(torch.cat((self.downsample2(n3), middle), dim=1))
        n5 = self.Csp_n4(torch.cat((self.downsample1(n4), top), dim=1))
        return [n3, n4, n5, self.p6_conv_1(top) + self.p6_conv_2(n5)]


class Head(Composite):
    """The decoupled head; branches that only training needs are dropped.

    Boxes are distances to the four sides, raw (4 channels) or as distributions (4 * bins); heads of the first release
    have an objectness and YOLOX's boxes. ``proj`` and ``proj_conv`` hold the bins' numbers and stay unused.
    """

    dropped = ("cls_preds_ab", "reg_preds_ab", "reg_preds_dist")
    stems: nn.Module
    cls_convs: nn.Module
    reg_convs: nn.Module
    cls_preds: nn.Module
    reg_preds: nn.Module
    obj_preds: nn.Module | None
    proj_conv: nn.Module | None

    def __init__(self, *, proj: Tensor | None = None, **parts: nn.Module) -> None:
        """Keep the parts; each list must have one entry per level.

        Raises:
            PartsError: Parts are missing, not known, or of different lengths.
        """
        super().__init__(**parts)
        self.proj = None if proj is None else nn.Parameter(proj, requires_grad=False)
        lists = [self.stems, self.cls_convs, self.reg_convs, self.cls_preds, self.reg_preds]
        lists += [] if self.obj_preds is None else [self.obj_preds]
        lengths = {len(part) if isinstance(part, nn.ModuleList) else 0 for part in lists}
        if len(lengths) != 1 or not 1 <= lengths.copy().pop() <= 6:
            raise PartsError(f"expected lists of one length, got {sorted(lengths)}")

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(list(self.stems.children()))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return _channels(self.cls_preds)

    @property
    def bins(self) -> int:
        """Bins per side: 1 where distances are predicted directly."""
        channels = _channels(self.reg_preds)
        if channels % 4:
            raise PartsError(f"reg_preds: expected 4 sides, got {channels} channels (landmarks are not supported)")
        return channels // 4

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return per level boxes (N, 4 * bins, h, w), objectness (N, 1, h, w) if any, class logits."""
        raw: list[Tensor] = []
        for level, feature in enumerate(features):
            x = _at(self.stems, level)(feature)
            box = _at(self.reg_convs, level)(x)
            raw.append(_at(self.reg_preds, level)(box))
            if self.obj_preds is not None:
                raw.append(_at(self.obj_preds, level)(box))
            raw.append(_at(self.cls_preds, level)(_at(self.cls_convs, level)(x)))
        return tuple(raw)


def _at(parts: nn.Module, level: int) -> nn.Module:
    return parts.get_submodule(str(level))


def _channels(parts: nn.Module) -> int:
    """Output channels of the prediction convolutions, which must agree over the levels."""
    counts = {m.out_channels if isinstance(m, nn.Conv2d) else 0 for m in parts.children()}
    if len(counts) != 1 or 0 in counts:
        raise PartsError(f"expected convolutions of one width in all levels, got {sorted(counts)}")
    return counts.pop()


class YoloV6(DetectorModule):
    """A YOLOv6 detector."""

    def __init__(self, spec: ModelSpec, backbone: nn.Module, neck: nn.Module, detect: Head) -> None:
        """Keep the three parts."""
        super().__init__(spec)
        self.backbone = backbone
        self.neck = neck
        self.detect = detect

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the head's raw outputs."""
        raw: tuple[Tensor, ...] = self.detect(self.neck(self.backbone(x)))
        return raw

    @classmethod
    def assemble(
        cls,
        variant: str,
        classes: tuple[str, ...],
        backbone: nn.Module,
        neck: nn.Module,
        detect: Head,
        *,
        strides: Sequence[int] | None = None,
    ) -> YoloV6:
        """Put three parts together, with the spec that follows from them.

        Args:
            variant: Such as ``yolov6n``.
            classes: Class names.
            backbone: From picture to features.
            neck: From features to features.
            detect: From features to raw outputs.
            strides: Of the head's levels; without them the network is run once, which proves that it fits.

        Raises:
            PartsError: The head contradicts itself.
            RuntimeError: The parts do not fit together.
        """
        strides = strides or _measure_strides(backbone, neck, detect)
        spec = _spec(variant, classes, detect, strides, lite=isinstance(neck, LiteNeck))
        return cls(spec, backbone, neck, detect)


def _measure_strides(backbone: nn.Module, neck: nn.Module, detect: Head) -> list[int]:
    """Run the network once on a small picture: proves that its parts fit, and tells the strides."""
    px = 8 << max(detect.levels, 2)
    modes = [(m, m.training) for part in (backbone, neck, detect) for m in part.modules()]
    for module, _ in modes:
        module.training = False
    with torch.no_grad():
        like = next(backbone.parameters())
        raw = detect(neck(backbone(torch.zeros(1, 3, px, px, dtype=like.dtype, device=like.device))))
    for module, training in modes:
        module.training = training
    per_level = len(raw) // detect.levels
    strides = [px // out.shape[2] for out in raw[::per_level]]
    if any(2 * a != b for a, b in pairwise(strides)):
        raise PartsError(f"expected strides that double, got {strides}")
    return strides


def _spec(variant: str, classes: tuple[str, ...], detect: Head, strides: Sequence[int], *, lite: bool) -> ModelSpec:
    objectness = detect.obj_preds is not None
    levels = tuple(
        LevelSpec(
            stride,
            boxes=f"boxes_{i}",
            objectness=f"objectness_{i}" if objectness else None,
            scores=f"scores_{i}",
        )
        for i, stride in enumerate(strides)
    )
    if objectness:
        decode = DecodeSpec("points-exp", levels, score="obj*cls")
    elif detect.bins > 1:
        decode = DecodeSpec("dfl", levels, score="cls", bins=detect.bins, cell_offset=0.5)
    else:
        decode = DecodeSpec("ltrb", levels, score="cls", cell_offset=0.5)
    px = 320 if lite else 1280 if len(strides) == 4 else 640
    return ModelSpec(
        family="yolov6",
        variant=variant,
        input=InputSpec("images", px, px, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec("letterbox"),
        decode=decode,
        classes=classes,
        licence=LICENCE,
    )
