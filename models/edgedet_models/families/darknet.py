"""Detectors of darknet: YOLOv2, v3, v4, their tiny forms and relatives, from ``.cfg`` and ``.weights``.

The cfg is the architecture, so nothing is assumed but darknet's own conventions: RGB / 255, a picture
stretched to the network's size, BatchNorm epsilon 1e-5. Redmon and Farhadi, "YOLOv3: An Incremental
Improvement", arXiv:1804.02767; Bochkovskiy et al., "YOLOv4", arXiv:2004.10934.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.darknet.cfg import parse_cfg
from edgedet_models.darknet.network import DarknetNetwork, check_length
from edgedet_models.darknet.plan import NetworkPlan, plan_network
from edgedet_models.darknet.presets import PRESETS
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "YOLO LICENSE (public domain)"
FORMS = ("weights with a .cfg",)


def _plan(text: str, source: str) -> NetworkPlan:
    plan = plan_network(parse_cfg(text, source))
    heads = plan.heads
    for what, values in (
        ("classes", {h.classes for h in heads}),
        ("new_coords", {h.new_coords for h in heads}),
        ("kind of head", {h.softmax for h in heads}),
    ):
        if len(values) != 1:
            raise CheckpointError(f"{source}: expected one {what} in all detection layers, got {sorted(values)}")
    return plan


def _spec(variant: str, plan: NetworkPlan, classes: tuple[str, ...]) -> ModelSpec:
    levels = tuple(
        LevelSpec(
            head.stride,
            boxes=f"boxes_{i}",
            objectness=f"objectness_{i}",
            scores=f"scores_{i}",
            anchors_px=head.anchors_px,
            scale_xy=head.scale_xy,
        )
        for i, head in enumerate(plan.heads)
    )
    return ModelSpec(
        family="darknet",
        variant=variant,
        input=InputSpec("images", plan.height, plan.width, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec("stretch"),
        decode=DecodeSpec("anchors", levels, score="obj*cls", wh="square" if plan.heads[0].new_coords else "exp"),
        classes=classes,
        licence=LICENCE,
    )


def _build(variant: str, classes: tuple[str, ...]) -> DarknetNetwork:
    plan = _plan(PRESETS[variant](len(classes)), f"{variant}.cfg")
    return DarknetNetwork(plan, _spec(variant, plan, classes))


VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {name: partial(_build, name) for name in PRESETS}


def _structure(plan: NetworkPlan) -> list[object]:
    """What makes a plan a preset's: layers, channels and connections, whatever the picture size."""
    return [(layer.section.kind, layer.inputs, layer.shape[0]) for layer in plan.layers]


def _variant(plan: NetworkPlan) -> str:
    classes = plan.heads[0].classes
    for name, text in PRESETS.items():
        if _structure(_plan(text(classes), name)) == _structure(plan):
            return name
    return "custom"


def _inspect(checkpoint: Checkpoint) -> tuple[NetworkPlan, Recognition] | None:
    if checkpoint.format != "darknet":
        return None
    content = checkpoint.content
    plan = _plan(content["cfg"], content["cfg_name"])
    count = plan.heads[0].classes
    names = tuple(content["names"])
    if names and len(names) != count:
        raise CheckpointError(
            f"{checkpoint.path}: expected {count} class names, as {content['cfg_name']} has classes={count}, got"
            f" {len(names)} in the .names file beside it; correct or remove that file"
        )
    kinds = sorted({layer.section.kind for layer in plan.layers})
    why = (
        f"{Path(content['cfg_name']).name} of {len(plan.layers)} layers ({', '.join(kinds)}), strides"
        f" {', '.join(str(h.stride) for h in plan.heads)}"
    )
    classes = names or tuple(f"class{i}" for i in range(count))
    return plan, Recognition("darknet", _variant(plan), classes, why)


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Say what the cfg describes; None for other formats.

    Raises:
        CheckpointError: It is darknet's, and has a section or option that is not supported; names the line.
    """
    found = _inspect(checkpoint)
    return None if found is None else found[1]


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the cfg's network and fill it.

    Raises:
        CheckpointError: The file is not darknet's, the cfg is not supported, or the weights do not fit it.
    """
    found = _inspect(checkpoint)
    if found is None:
        raise CheckpointError(f"{checkpoint.path}: expected darknet's .weights and .cfg, got {checkpoint.format}")
    plan, recognition = found
    weights = checkpoint.content["weights"]
    check_length(plan, weights.numel(), checkpoint.path)  # before anything of the cfg's size is allocated
    detector = DarknetNetwork(plan, _spec(recognition.variant, plan, recognition.classes))
    detector.load_vector(plan, weights)
    return detector.eval()
