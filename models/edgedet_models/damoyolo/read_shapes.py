"""Read DAMO-YOLO's structure off the shapes of a state dict."""

from __future__ import annotations

from edgedet_models.checkpoint.shapes import Shapes
from edgedet_models.damoyolo.structure import (
    STRIDES,
    Block,
    DamoConfig,
    Design,
    Form,
    Merge,
    Mobile,
    Residual,
    Spp,
    Stage,
    Stem,
    Wrapper,
)
from edgedet_runtime.errors import CheckpointError

__all__ = ["HEAD_MARK", "NECK_MARK", "read_config"]

HEAD_MARK = "head.gfl_cls.0.weight"
NECK_MARK = "neck.merge_3.conv1.conv.weight"
MERGES = ("merge_3", "merge_4", "merge_5", "merge_7", "merge_6")


def _form(shapes: Shapes, name: str) -> Form:
    if shapes.has(f"{name}.rbr_dense"):
        return "rep"
    return "deploy" if shapes.has(f"{name}.rbr_reparam") else "plain"


def _residual(shapes: Shapes, name: str, stride: int) -> Residual:
    hidden, c_in, first_kernel = shapes.conv(f"{name}.conv1.conv1")
    form = _form(shapes, f"{name}.conv2")
    inner = {"rep": "rbr_dense.conv", "deploy": "rbr_reparam", "plain": "conv1"}[form]
    c_out, _, kernel = shapes.conv(f"{name}.conv2.{inner}")
    return Residual(c_in, c_out, hidden, first_kernel, stride, form, kernel)


def _mobile(shapes: Shapes, name: str, stride: int) -> Mobile:
    hidden, c_in, _ = shapes.conv(f"{name}.conv.0")
    _, _, kernel = shapes.conv(f"{name}.conv.3")
    c_out, _, _ = shapes.conv(f"{name}.conv.7")
    gate = f"{name}.conv.5.fc.0"
    return Mobile(c_in, c_out, hidden, stride, shapes.matrix(gate)[0] if shapes.has(gate) else 0, kernel)


def _block(shapes: Shapes, name: str, stride: int) -> Block:
    if shapes.has(f"{name}.conv1.conv"):
        return Spp(shapes.conv(f"{name}.conv1.conv")[1])
    if shapes.has(f"{name}.conv1.conv1"):
        return _residual(shapes, name, stride)
    return _mobile(shapes, name, stride)


def _stages(shapes: Shapes) -> tuple[Stage, ...]:
    root = "backbone.block_list"
    if shapes.count(root) != 6:
        raise CheckpointError(
            f"{shapes.path}: expected a TinyNAS backbone of a stem and five stages, got {shapes.count(root)} parts"
        )
    return tuple(
        Stage(
            tuple(
                _block(shapes, f"{root}.{i}.block_list.{j}", 1 if j else stride)
                for j in range(shapes.count(f"{root}.{i}.block_list"))
            )
        )
        for i, stride in enumerate(STRIDES, start=1)
    )


def _wrapper(shapes: Shapes, name: str) -> Wrapper:
    c_down, c_in, _ = shapes.conv(f"{name}.downsampler.conv.conv1")
    count = shapes.count(f"{name}.convstem")
    blocks = tuple(_block(shapes, f"{name}.convstem.{j}", 1) for j in range(count))
    start, shortcut, out = (
        shapes.conv(f"{name}.{part}.conv.conv1")[0] if blocks else c_down
        for part in ("conv_start", "conv_shortcut", "conv_fuse")
    )
    return Wrapper(c_in, c_down, shapes.has(f"{name}.spp"), blocks, start, shortcut, out)


def _stem(shapes: Shapes, name: str) -> Stem:
    focus = shapes.has(f"{name}.conv.conv.weight")
    channels, _, kernel = shapes.conv(f"{name}.conv.conv" if focus else f"{name}.conv.conv1")
    return Stem(channels, kernel, focus)


def _merge(shapes: Shapes, name: str) -> Merge:
    blocks = shapes.count(f"{name}.convs")
    first = f"{name}.convs.0"
    if shapes.has(f"{first}.conv.conv"):
        return Merge(shapes.conv(f"{first}.conv.conv.0")[0], blocks, "mob")
    form = _form(shapes, f"{first}.conv2")
    return Merge(shapes.conv(f"{first}.conv1.conv")[1], blocks, form)


def read_config(shapes: Shapes) -> tuple[DamoConfig, int]:
    """Read the structure and the number of class outputs.

    Raises:
        CheckpointError: A tensor that the structure needs is missing or of an unexpected kind.
    """
    design: Design
    stages: tuple[Stage | Wrapper, ...]
    if shapes.has("backbone.csp_stage"):
        design, root = "csp", "backbone.csp_stage"
        stages = tuple(_wrapper(shapes, f"{root}.{i}") for i in range(1, shapes.count(root)))
        if len(stages) != 4:
            raise CheckpointError(f"{shapes.path}: expected four CSP stages in the backbone, got {len(stages)}")
    else:
        root, stages = "backbone.block_list", _stages(shapes)
        mobile = any(isinstance(block, Mobile) for stage in stages for block in getattr(stage, "blocks", ()))
        design = "mob" if mobile else "res"
    outs = {name: shapes.conv(f"neck.{name}.conv3.conv")[0] for name in MERGES}
    fine_and_middle = shapes.conv("neck.merge_5.conv1.conv")[1]
    merges = [_merge(shapes, f"neck.{name}") for name in MERGES]
    classes, _, kernel = shapes.conv("head.gfl_cls.0")
    boxes, _, _ = shapes.conv("head.gfl_reg.0")
    config = DamoConfig(
        design=design,
        stem=_stem(shapes, f"{root}.0"),
        stages=stages,
        neck_in=(fine_and_middle - outs["merge_4"], outs["merge_4"], outs["merge_3"]),
        neck_out=(outs["merge_5"], outs["merge_7"], outs["merge_6"]),
        merges=(merges[0], merges[1], merges[2], merges[3], merges[4]),
        bins=boxes // 4,
        head_kernel=kernel,
    )
    return config, classes
