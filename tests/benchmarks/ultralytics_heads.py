"""Ultralytics' OpenVINO file, cut at its raw heads and described, so that edgedet runs the very same network.

The file ends in one tensor of decoded boxes and scores. Walking back from its output, the convolutions that nothing
but decoding separates from it are the heads: per level one with 4 x 16 channels (the distances' bins) and one with the
class logits. Cut there, and with the input's arithmetic folded in (OpenVINO's PrePostProcessor), the file is what
``edgedet export`` writes; its weights and quantisation are untouched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

__all__ = ["cut_at_heads"]

BINS = 16


def cut_at_heads(source: Path, target: Path, classes: tuple[str, ...]) -> ModelSpec:
    """Write `source` (.xml) cut at its heads to `target` (.xml), with a spec inside.

    Returns:
        The spec.
    """
    import openvino as ov

    model = ov.Core().read_model(str(source))
    height, width = list(model.input(0).get_shape())[2:]
    heads = _heads(model)
    boxes = sorted((p for p in heads if p.get_shape()[1] == 4 * BINS), key=lambda p: -p.get_shape()[2])
    scores = sorted((p for p in heads if p.get_shape()[1] == len(classes)), key=lambda p: -p.get_shape()[2])
    if len(boxes) != 3 or len(scores) != 3:
        raise SystemExit(f"expected 3 box and 3 score heads, got {[list(p.get_shape()) for p in heads]}")
    levels = []
    for number, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        box.get_tensor().set_names({f"boxes_{number}"})
        score.get_tensor().set_names({f"scores_{number}"})
        levels.append(LevelSpec(height // box.get_shape()[2], f"boxes_{number}", f"scores_{number}"))
    spec = ModelSpec(
        family="custom",
        variant="ultralytics-yolov5nu",
        input=InputSpec("images", height, width),
        resize=ResizeSpec(),
        decode=DecodeSpec("dfl", tuple(levels), score="cls", bins=BINS),
        classes=classes,
        thresholds=Thresholds(),
        licence="AGPL-3.0",
    )
    ports = [port for pair in zip(boxes, scores, strict=True) for port in pair]
    cut = ov.Model(ports, model.get_parameters(), "cut")
    cut = _fold_input(cut)
    cut.input(0).get_tensor().set_names({"images"})
    cut.set_rt_info(spec.to_json(), ["edgedet"])
    target.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(cut, str(target), compress_to_fp16=False)
    return spec


def _heads(model: Any) -> list[Any]:
    """Return the outputs of the convolutions (with their bias) nearest to the model's output."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    stack = [model.output(0).get_node()]
    while stack:
        node = stack.pop()
        name = node.get_friendly_name()
        is_head = node.get_type_name() == "Convolution" and len(node.get_input_shape(1)) == 4
        if is_head and node.get_output_shape(0)[2] > 1 and node.get_output_shape(0)[1] > 1:
            after = next(iter(node.output(0).get_target_inputs())).get_node()
            found[name] = after.output(0) if after.get_type_name() == "Add" else node.output(0)
            continue
        if name in seen or node.get_type_name() == "ShapeOf":  # a grid's size, not its content
            continue
        seen.add(name)
        stack += [value.get_source_output().get_node() for value in node.inputs()]
    return list(found.values())


def _fold_input(model: Any) -> Any:
    """Let the model take a camera's uint8 NHWC BGR."""
    import openvino as ov
    from openvino.preprocess import ColorFormat, PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().tensor().set_color_format(ColorFormat.BGR)
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).convert_color(ColorFormat.RGB).scale(255.0)
    return steps.build()
