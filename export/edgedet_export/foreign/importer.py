"""From somebody else's ONNX file to raw heads and a spec: read, understand, cut, verify."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgedet_export.foreign.coco_names import COCO_NAMES
from edgedet_export.foreign.cut import CutAtHeads
from edgedet_export.foreign.families import Anchors, family_facts
from edgedet_export.foreign.file_input import (
    INPUT_NAME,
    FileInput,
    NormalizeInput,
    has_open_size,
    read_input,
    scales_pixels,
)
from edgedet_export.foreign.fold_constants import FoldConstants
from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions, folded_operators
from edgedet_export.foreign.half import ToFloat32
from edgedet_export.foreign.heads import HeadLevel, describe_outputs, find_heads
from edgedet_export.foreign.interpretation import Interpretation
from edgedet_export.foreign.interpretation_search import interpret
from edgedet_export.foreign.origin import Origin, origin_of
from edgedet_export.foreign.selection import Selection, TakeOffSelection, find_selection, selects, with_outputs
from edgedet_export.foreign.session import open_session, run
from edgedet_export.foreign.tail import Tail
from edgedet_export.foreign.trials import try_untouched
from edgedet_export.foreign.verify import Difference, verify_cut
from edgedet_export.graph.conversion import from_proto, load_model, set_metadata, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.shapes import forget_shapes, infer_shapes
from edgedet_export.graph.values import dims
from edgedet_export.onnx_passes import run_passes
from edgedet_export.pass_report import PassReport
from edgedet_models.layer_list.names import class_names
from edgedet_runtime.errors import CheckpointError, InputError, ModelFileError
from edgedet_runtime.licence_text import licence_of
from edgedet_runtime.spec import ColorOrder, InputSpec, ModelSpec, ResizeSpec, Thresholds
from edgedet_runtime.version import __version__

__all__ = [
    "METADATA_KEY",
    "ForeignModel",
    "SpecOverrides",
    "choose_class_names",
    "class_names_of",
    "import_onnx",
    "read_foreign",
    "upgrade",
]

METADATA_KEY = "edgedet"
TARGET_OPSET = 17
"""Upgraded to where older: per-channel quantisation needs 13; 17 is what this tool's own exports use."""


@dataclass(frozen=True, slots=True)
class SpecOverrides:
    """What the user knows better than the family's convention; None keeps the convention.

    Attributes:
        color: Channel order that the network wants.
        scale: Factor on the 8-bit pixel.
        mean: Subtracted after scaling, in `color` order.
        std: Divisor after subtracting, in `color` order.
        resize: How pictures are brought to size.
        anchors_px: Anchors per level, finest first, (width, height) in input pixels; used only where the graph holds
            none.
        thresholds: Default thresholds.
        licence: Licence of the weights.
        variant: Name of the network, such as ``yolox-nano``.
    """

    color: ColorOrder | None = None
    scale: float | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: ResizeSpec | None = None
    anchors_px: Anchors | None = None
    thresholds: Thresholds | None = None
    licence: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A foreign detector, cut at its raw heads.

    Attributes:
        model: ONNX with input `images` (float32 NCHW) and the raw outputs of ``spec.decode.output_names``; holds the
            spec in its metadata.
        spec: Its contract, in the network's own convention.
        notes: What was assumed, converted or folded, one sentence each, for people.
        difference: How well it agrees with the untouched file.
        passes: What each pass on its graph changed and declined.
    """

    model: onnx.ModelProto
    spec: ModelSpec
    notes: tuple[str, ...]
    difference: Difference
    passes: tuple[PassReport, ...] = ()


def import_onnx(
    source: str | Path | onnx.ModelProto,
    *,
    family: str | None = None,
    classes: Sequence[str] | None = None,
    imgsz: tuple[int, int] | None = None,
    overrides: SpecOverrides | None = None,
    pictures_bgr: Sequence[npt.NDArray[np.uint8]] = (),
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Read somebody else's ONNX detector and cut it at its raw heads; as `read_foreign`, without the notes."""
    foreign = read_foreign(
        source, family=family, classes=classes, imgsz=imgsz, overrides=overrides, pictures_bgr=pictures_bgr
    )
    return foreign.model, foreign.spec


def read_foreign(
    source: str | Path | onnx.ModelProto,
    *,
    family: str | None = None,
    classes: Sequence[str] | None = None,
    imgsz: tuple[int, int] | None = None,
    overrides: SpecOverrides | None = None,
    pictures_bgr: Sequence[npt.NDArray[np.uint8]] = (),
) -> ForeignModel:
    """Read somebody else's ONNX detector and cut it at its raw heads.

    The head is found by topology and its decoding by asking the graph, never by node names. Before it is returned, the
    cut network is run against the untouched file.

    Args:
        source: A file, with its external data beside it, or a model in memory; never changed.
        family: A name in `edgedet_export.foreign.families.FAMILIES`; needed where the file leaves boxes undecoded.
        classes: Class names; else those in the file's metadata, else COCO's where there are 80, else class0 ….
        imgsz: Height and width; needed where the file leaves them open, otherwise the graph is brought to them.
        overrides: What the user knows better than the family's convention.
        pictures_bgr: Real pictures, uint8 BGR (h, w, 3), to check with, besides noise and a drawn one.

    Raises:
        ModelFileError: The file is unreadable, no detector that is understood, or contradicts `family`.
        InputError: `family`, `classes` or `imgsz` do not fit.
        EngineDeathError: onnxruntime died of the file, hung, or took more memory than it may; in a child process.
        CheckFailedError: The cut network does not agree with the file.
    """
    options = overrides or SpecOverrides()
    model = from_proto(source) if isinstance(source, onnx.ModelProto) else load_model(source)
    untouched: onnx.ModelProto | str = source if isinstance(source, onnx.ModelProto) else str(source)
    metadata = dict(model.metadata_props)
    _refuse_foreign_operators(model.graph)
    _refuse_other_tasks(metadata)
    notes: list[str] = []
    origin = origin_of(metadata)
    file_input = read_input(model.graph, imgsz=imgsz or origin.size_hw)
    if imgsz is None and has_open_size(model.graph):
        notes.append(f"size: {file_input.height}×{file_input.width}, as the metadata say, since the input is open")
    if file_input.gray:
        options = replace(options, color="RGB")
        notes.append("pictures: the file takes gray ones; colors are weighted in front of it, as OpenCV weights them")
    size_hw = (file_input.height, file_input.width)
    if not isinstance(source, onnx.ModelProto):
        try_untouched(Path(source), file_input)
    prepared = run_passes(model, [ToFloat32(), NormalizeInput(file_input), FoldConstants()])
    converted = bool(prepared.reports[0].changed)
    if converted:
        notes.append("precision: fp16 converted to fp32")
    float_model = to_proto(model) if converted else None
    folded = run_passes(model, [FoldIntoConvolutions()])
    for op_type, count in folded_operators(folded.reports[0]).items():
        notes.append(f"folded into convolutions: {count} {op_type}")
    outputs = describe_outputs(model.graph)
    taken_off: tuple[PassReport, ...] = ()
    levels = find_heads(model.graph, size_hw)
    selection = find_selection(model.graph, levels) if selects(model.graph) else None
    if selection is not None:
        taken_off = run_passes(model, [TakeOffSelection(selection)]).reports
        untouched = with_outputs(untouched, selection.candidates)
        float_model = None if float_model is None else with_outputs(float_model, selection.candidates)
        notes.append(f"selection: {_SELECTIONS[selection.suppression]} in the graph taken off; the runtime selects")
    found = interpret(
        Tail(model, levels),
        size_hw,
        outputs=outputs,
        family=family or origin.family,
        anchors_px=options.anchors_px,
    )
    notes += found.notes
    told = f"unknown ({found.family} code is {family_facts(found.family).licence})" if family or origin.family else None
    licence = options.licence or licence_of(metadata) or told
    options = replace(options, licence=licence, variant=options.variant or origin.variant)
    spec = _spec(
        model.graph, found, file_input, choose_class_names(found.num_classes, classes, metadata, notes), options, notes
    )
    if selection is not None:
        spec = _as_selected(spec, selection, origin)
    cut = run_passes(model, [CutAtHeads(levels, found)])
    proto = upgrade(to_proto(model), notes)
    facts: dict[str, Any] = {"levels": levels, "found": found, "spec": spec, "pictures_bgr": pictures_bgr}
    difference = verify_cut(untouched, proto, file_input=file_input, **facts)
    if float_model is not None:  # the file itself rounds to fp16, which hides small errors
        plain = FileInput(INPUT_NAME, "float32", False, *size_hw)
        difference = verify_cut(float_model, proto, file_input=plain, **facts)
    if imgsz is not None and imgsz != size_hw:
        proto, spec = _resize(proto, spec, levels, imgsz)
        notes.append(f"size: brought from {size_hw[0]}×{size_hw[1]} to {imgsz[0]}×{imgsz[1]} after the check")
    set_metadata(proto, METADATA_KEY, spec.to_json())
    reports = (*prepared.reports, *folded.reports, *taken_off, *cut.reports)
    return ForeignModel(proto, spec, tuple(notes), difference, reports)


_SELECTIONS = {"nms": "NMS", "none": "the best k"}


def _as_selected(spec: ModelSpec, selection: Selection, origin: Origin) -> ModelSpec:
    """Return the spec with the selection that the file had.

    A graph that takes the best k does so over pairs of candidate and class, or has one class per candidate; both are
    the best pairs.
    """
    told = {key: origin.args.get(key) for key in ("conf", "iou", "max_det")}
    conf, iou, max_det = told["conf"], selection.iou or told["iou"], told["max_det"]
    limits = replace(
        spec.thresholds,
        conf=float(conf) if isinstance(conf, (int, float)) and 0 <= conf <= 1 else spec.thresholds.conf,
        iou=float(iou) if isinstance(iou, (int, float)) and 0 <= iou <= 1 else spec.thresholds.iou,
        max_det=max_det if type(max_det) is int and max_det > 0 else spec.thresholds.max_det,
        multi_label=selection.suppression == "none",
    )
    return spec.replace(decode=replace(spec.decode, suppression=selection.suppression), thresholds=limits)


def _refuse_foreign_operators(graph: ir.Graph) -> None:
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in graph if node.domain})
    unknown = {node.op_type for node in graph if not node.domain and not _is_standard(node.op_type)}
    got = foreign + sorted(unknown)
    if got:
        raise ModelFileError(
            f"ONNX file: expected standard operators only, got {', '.join(got[:5])}; export without plugins,"
            " end-to-end NMS or engine-specific optimisation"
        )


def _is_standard(op_type: str) -> bool:
    return bool(onnx.defs.has(op_type))


def _refuse_other_tasks(metadata: dict[str, str]) -> None:
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelFileError(f"ONNX file: expected a detector, got a network for the task {task!r}")


def choose_class_names(
    count: int, given: Sequence[str] | None, metadata: dict[str, str], notes: list[str]
) -> tuple[str, ...]:
    """Choose the class names: given, stored by the exporter, or numbered.

    Raises:
        InputError: More or fewer are given than the head has.
    """
    if given is not None:
        if len(given) != count:
            raise InputError(f"classes: expected {count} names, as the head has, got {len(given)}")
        return tuple(given)
    stored = _stored_names(metadata.get("names", ""))
    if stored is not None and len(stored) == count:
        return stored
    if stored is None and count == 80:
        notes.append("classes: COCO's 80 names, as the file stores none")
        return COCO_NAMES
    why = (
        f"the file stores {len(stored)} names for the {count} classes of its head"
        if stored
        else "the file stores no names"
    )
    notes.append(f"classes: numbered class0 … class{count - 1}, as {why}; give them with `classes` (--names)")
    return tuple(f"class{i}" for i in range(count))


def class_names_of(text: str, count: int) -> list[str] | None:
    """Return the class names in a file's metadata; None where there are none, or more or fewer than the classes."""
    stored = _stored_names(text)
    return list(stored) if stored is not None and len(stored) == count else None


def _stored_names(text: str) -> tuple[str, ...] | None:
    """Read the exporter's list or dict of names, written as a Python literal or JSON; None if there is none."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    try:
        return class_names(value, len(value)) if isinstance(value, (dict, list, tuple)) and value else None
    except CheckpointError:
        return None


def _spec(
    graph: ir.Graph,
    found: Interpretation,
    file_input: FileInput,
    classes: tuple[str, ...],
    options: SpecOverrides,
    notes: list[str],
) -> ModelSpec:
    facts = family_facts(found.family)
    scale = facts.scale
    if scale != 1.0 and scales_pixels(graph):
        scale = 1.0
        notes.append("pixels: 0..255, as the graph scales them itself")
    return ModelSpec(
        family=found.family,
        variant=options.variant or "onnx",
        input=InputSpec(
            INPUT_NAME,
            file_input.height,
            file_input.width,
            layout="NCHW",
            dtype="float32",
            color=options.color or facts.color,
            scale=scale if options.scale is None else options.scale,
            mean=options.mean or (0.0, 0.0, 0.0),
            std=options.std or (1.0, 1.0, 1.0),
        ),
        resize=options.resize or facts.resize,
        decode=found.decode,
        classes=classes,
        thresholds=options.thresholds or facts.thresholds,
        licence=options.licence or "unknown",
        tool_version=__version__,
    )


def upgrade(model: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """Bring the standard operator set to `TARGET_OPSET` if the file has an older one and ONNX can convert it."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    if version >= TARGET_OPSET:
        return model
    try:
        upgraded: onnx.ModelProto = onnx.version_converter.convert_version(model, TARGET_OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as e:  # it lacks an adapter; the old one runs too
        notes.append(f"opset: kept at {version} (ONNX's converter: {' '.join(str(e).split())[:80]})")
        return model
    upgraded.ir_version = max(upgraded.ir_version, 8)
    notes.append(f"opset: {version} converted to {TARGET_OPSET}")
    return upgraded


def _resize(
    model: onnx.ModelProto, spec: ModelSpec, levels: Sequence[HeadLevel], imgsz: tuple[int, int]
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Bring a cut network to another input size.

    Raises:
        InputError: The size is no multiple of the largest stride.
        ModelFileError: The graph is fixed to its size.
    """
    largest = max(level.stride for level in levels)
    if imgsz[0] % largest or imgsz[1] % largest or min(imgsz) <= 0:
        raise InputError(f"imgsz: expected multiples of {largest}, got {imgsz[0]}×{imgsz[1]}")
    resized = from_proto(model)
    resized.graph.inputs[0].shape = ir.Shape([1, 3, *imgsz])
    strides = {
        name: level.stride
        for level in spec.decode.levels
        for name in (level.boxes, level.objectness, level.scores)
        if name is not None
    }
    values = by_name(resized.graph)
    for name, stride in strides.items():
        channels = (dims(values[name]) or (1, 1))[1]
        values[name].shape = ir.Shape([1, channels, imgsz[0] // stride, imgsz[1] // stride])
    forget_shapes(resized)
    fixed = f"imgsz: this file's graph is fixed to {spec.input.height}×{spec.input.width}; export it anew"
    try:
        outputs = run(open_session(to_proto(resized)), {INPUT_NAME: np.zeros((1, 3, *imgsz), np.float32)})
    except ModelFileError as e:
        raise ModelFileError(f"{fixed} ({e})") from None
    if [o.shape[2:] for o in outputs] != [(imgsz[0] // s, imgsz[1] // s) for s in strides.values()]:
        raise ModelFileError(fixed)
    infer_shapes(resized)
    return to_proto(resized), spec.with_size(*imgsz)
