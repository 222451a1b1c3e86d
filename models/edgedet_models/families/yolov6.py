"""YOLOv6 (Meituan): n, t, s, m, l and lite, training and deploy form, with any head of the official code.

Official checkpoints are pickled modules, so the network is rebuilt from the module tree in the file. Branches of the
head that only training needs (self-distillation, fused anchor-based branch) are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_models.checkpoint.content import Checkpoint, ModuleNode
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.yolov6.composite import PartsError
from edgedet_models.yolov6.network import LICENCE, Head, YoloV6
from edgedet_models.yolov6.rebuild import rebuild
from edgedet_models.yolov6.sizes import BUILDERS
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FORMS = ("pickled modules",)
VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = BUILDERS

STEMS: Mapping[tuple[str, int], str] = {
    ("RepBlock", 16): "yolov6n",
    ("RepBlock", 24): "yolov6t",
    ("RepBlock", 32): "yolov6s",
    ("BepC3", 48): "yolov6m",
    ("BepC3", 64): "yolov6l",
}
"""Variant by the kind of the stages and the stem's channels."""
LITE: Mapping[int, str] = {176: "yolov6-lite-s", 288: "yolov6-lite-m", 384: "yolov6-lite-l"}
"""Lite variant by the channels of the last stage."""


def _find(checkpoint: Checkpoint) -> ModuleNode | None:
    node = checkpoint.module()
    if node is None or not {"backbone", "neck", "detect"} <= set(node.children):
        return None
    return node if {"stems", "cls_preds", "reg_preds"} <= set(node.children["detect"].children) else None


def _first_conv_channels(node: ModuleNode) -> int:
    """Output channels of the first convolution in a subtree; 0 if there is none."""
    for _, child in node.walk():
        weight = child.parameters.get("weight")
        if weight is not None and weight.dim() == 4:
            return len(weight)
    return 0


def _variant(node: ModuleNode) -> str:
    backbone = node.children["backbone"]
    if "lite_effiblock_4" in backbone.children:
        blocks = list(backbone.children["lite_effiblock_4"].children.values())
        last = blocks[0].children.get("conv_dw_3") if blocks else None
        return LITE.get(_first_conv_channels(last) if last is not None else 0, "custom")
    stem, stage = backbone.children.get("stem"), backbone.children.get("ERBlock_2")
    if stem is None or stage is None or "1" not in stage.children:
        return "custom"
    name = STEMS.get((stage.children["1"].type_name, _first_conv_channels(stem)), "custom")
    return f"{name}6" if "ERBlock_6" in backbone.children and name != "custom" else name


def _classes(node: ModuleNode) -> tuple[str, ...]:
    count = _first_conv_channels(node.children["detect"].children["cls_preds"])
    return tuple(f"class{i}" for i in range(count))


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognise pickled YOLOv6 models by their parts and head."""
    node = _find(checkpoint)
    if node is None:
        return None
    detect = node.children["detect"]
    extra = [name for name in Head.dropped if name in detect.children]
    deployed = any("rbr_reparam" in child.children for _, child in node.walk())
    why = (
        f"pickled {node.class_path} of {node.children['backbone'].type_name}, {node.children['neck'].type_name} and"
        f" {detect.class_path}, {'deploy' if deployed else 'training'} form"
        f"{', training-only ' + ' and '.join(extra) + ' dropped' if extra else ''}"
    )
    return Recognition("yolov6", _variant(node), _classes(node), why)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Rebuild the network from the file.

    Raises:
        CheckpointError: It is no YOLOv6, has layers that are not supported, or contradicts itself.
    """
    node = _find(checkpoint)
    if node is None:
        raise CheckpointError(f"{checkpoint.path}: expected a pickled YOLOv6 model, got another kind of file")
    try:
        parts = {name: rebuild(name, node.children[name]).eval() for name in ("backbone", "neck", "detect")}
        detect = parts["detect"]
        if not isinstance(detect, Head):
            raise PartsError(f"head: {node.children['detect'].class_path} is not supported")
        classes = tuple(f"class{i}" for i in range(detect.classes))
        detector = YoloV6.assemble(_variant(node), classes, parts["backbone"], parts["neck"], detect)
    except CheckpointError as e:
        raise CheckpointError(f"{checkpoint.path}: {e}") from None
    except (PartsError, RuntimeError, ValueError) as e:
        reason = " ".join(str(e).split())[:200]
        raise CheckpointError(
            f"{checkpoint.path}: expected a YOLOv6 whose parts fit together, got: {reason}; the file is damaged"
        ) from None
    return detector.eval()
