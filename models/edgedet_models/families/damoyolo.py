"""DAMO-YOLO (Alibaba, Apache-2.0): nano, T, S, M, L, and other sizes of those designs.

The official checkpoint is a state dict, its configuration a Python file that is not executed, so the structure is
read off the shapes. What leaves no trace there is taken from the official configuration of the design recognised:
activations (ReLU in T and S, SiLU in the others), the strides of the stages, BatchNorm epsilon 1e-3, RGB pictures
0..255 stretched to the network's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.shapes import Shapes
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.damoyolo.modules import GiraffeNeck, TinyNas, ZeroHead
from edgedet_models.damoyolo.read_shapes import HEAD_MARK, NECK_MARK, read_config
from edgedet_models.damoyolo.structure import SIZES, DamoConfig, Merge, Residual, Stage, Wrapper
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["FORMS", "LICENCE", "VARIANTS", "DamoYolo", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)
LEGACY_COCO = 81
"""Class outputs of checkpoints from before the head lost its background class."""


class DamoYolo(DetectorModule):
    """A DAMO-YOLO detector."""

    def __init__(self, config: DamoConfig, spec: ModelSpec) -> None:
        """Build an untrained detector of `config`'s structure for the classes of `spec`."""
        super().__init__(spec)
        self.backbone = TinyNas(config)
        self.neck = GiraffeNeck(config)
        self.head = ZeroHead(config, len(spec.classes))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per level boxes (N, 4 * bins, h, w) and class logits (N, classes, h, w)."""
        raw: tuple[Tensor, ...] = self.head(self.neck(self.backbone(x)))
        return raw


def _spec(variant: str, config: DamoConfig, classes: tuple[str, ...]) -> ModelSpec:
    px = 416 if config.design == "mob" else 640
    levels = tuple(LevelSpec(8 << i, boxes=f"boxes_{i}", scores=f"scores_{i}") for i in range(3))
    return ModelSpec(
        family="damoyolo",
        variant=variant,
        input=InputSpec("images", px, px, layout="NCHW", dtype="float32", color="RGB"),
        resize=ResizeSpec("stretch", pad_bgr=(0, 0, 0)),
        decode=DecodeSpec("dfl", levels, score="cls", bins=config.bins, cell_offset=0.0),
        classes=classes,
        thresholds=Thresholds(iou=0.7, max_det=500, multi_label=True),
        licence=LICENCE,
    )


def _build(variant: str, config: DamoConfig, classes: tuple[str, ...]) -> DamoYolo:
    return DamoYolo(config, _spec(variant, config, classes))


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {
    name: partial(_build, name, config) for name, config in SIZES.items()
}


def _training_form(config: DamoConfig) -> DamoConfig:
    """Undo deployment, so that both forms of a size have one name."""

    def block(b: object) -> object:
        return replace(b, form="rep") if isinstance(b, Residual) and b.form == "deploy" else b

    def stage(s: Stage | Wrapper) -> Stage | Wrapper:
        return replace(s, blocks=tuple(map(block, s.blocks)))  # type: ignore[arg-type]

    def merge(m: Merge) -> Merge:
        return replace(m, form="rep") if m.form == "deploy" else m

    a, b, c, d, e = map(merge, config.merges)
    return replace(config, stages=tuple(map(stage, config.stages)), merges=(a, b, c, d, e))


def _variant(config: DamoConfig) -> str:
    plain = _training_form(config)
    return next((name for name, size in SIZES.items() if size == plain), "custom")


def _marked(tensors: Mapping[str, Tensor]) -> bool:
    return HEAD_MARK in tensors and NECK_MARK in tensors


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Say which DAMO-YOLO the state dict is; None without its neck and head."""
    tensors = checkpoint.tensors()
    if not _marked(tensors):
        return None
    try:
        config, outputs = read_config(Shapes(tensors, checkpoint.path))
    except CheckpointError as e:
        return Recognition("damoyolo", "damaged", (), f"DAMO-YOLO keys, but: {e}")
    legacy = outputs == LEGACY_COCO
    classes = tuple(f"class{i}" for i in range(outputs - legacy))
    why = (
        f"DAMO-YOLO keys; TinyNAS of design {config.design}, {config.bins} bins per side"
        f"{', 81 class outputs taken as 80 classes and the former background' if legacy else ''}; assumed, as the"
        f" file cannot tell: {config.act.upper()}, strides of the stages, BatchNorm eps 1e-3, RGB 0..255 stretched"
    )
    return Recognition("damoyolo", _variant(config), classes, why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the detector that the shapes describe and load it strictly.

    Raises:
        CheckpointError: The file is no DAMO-YOLO, or a tensor is missing, left over or misshapen.
    """
    tensors = dict(checkpoint.tensors())
    if not _marked(tensors):
        raise CheckpointError(f"{checkpoint.path}: expected a DAMO-YOLO state dict ({HEAD_MARK}), got other keys")
    config, outputs = read_config(Shapes(tensors, checkpoint.path))
    if outputs == LEGACY_COCO:
        for name in list(tensors):
            if name.startswith("head.gfl_cls."):
                tensors[name] = tensors[name][:-1]
    recognition = recognise(checkpoint)
    assert recognition is not None, "it has the marks"
    detector = _build(recognition.variant, config, recognition.classes)
    load_strict(detector, tensors, path=checkpoint.path, what=f"DAMO-YOLO ({recognition.variant})")
    bins = detector.head.integral.project
    if not torch.equal(bins, torch.arange(config.bins, dtype=bins.dtype)):
        raise CheckpointError(f"{checkpoint.path}: head.integral.project: expected 0..{config.bins - 1}, got others")
    return detector.eval()
