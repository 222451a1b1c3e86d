"""An ONNX file and the user's own spec of it: for detectors whose outputs edgedet does not understand by itself.

The spec names tensors of the file (`selectors`); they become the raw outputs ``boxes_0``, ``scores_0`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgedet_export.foreign.file_input import INPUT_NAME, NormalizeInput, read_input
from edgedet_export.foreign.fold_constants import FoldConstants
from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions
from edgedet_export.foreign.half import ToFloat32
from edgedet_export.foreign.importer import METADATA_KEY, ForeignModel, read_foreign, upgrade
from edgedet_export.foreign.queries import fix_picture_size
from edgedet_export.foreign.selection import with_outputs
from edgedet_export.foreign.selectors import Selector, append_raw
from edgedet_export.foreign.session import open_session, run
from edgedet_export.foreign.trials import try_prepared
from edgedet_export.foreign.verify import Difference
from edgedet_export.graph.conversion import load_model, set_metadata, to_proto
from edgedet_export.graph.edits import NewTensors, free_names, remove_dead, rename, set_outputs
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.onnx_passes import run_passes
from edgedet_runtime.errors import CheckFailedError, ModelFileError
from edgedet_runtime.spec import LevelSpec, ModelSpec

__all__ = ["read_with_spec"]

TOLERANCE = 1e-4
WHOLE_KINDS = ("decoded", "nms")
"""Kinds whose one output holds boxes and scores."""


@dataclass(frozen=True, slots=True)
class _Output:
    role: str
    level: int
    part: Selector

    @property
    def name(self) -> str:
        return f"{self.role}_{self.level}"


def read_with_spec(path: Path, spec: ModelSpec) -> ForeignModel:
    """Read an ONNX file by a spec that its user wrote.

    Args:
        path: The file.
        spec: Its input in the network's own convention; names of outputs are tensors of the file or parts of them, see
            `selectors`, or the names that ``inspect --draft-spec`` gave to heads that edgedet finds itself.

    Raises:
        ModelFileError: A tensor that the spec names is not there or has another shape, or scores are no logits.
        CheckFailedError: The tensors changed by being cut out.
    """
    model = load_model(path)
    size_hw = spec.input.size_hw
    sizes = fix_picture_size(model.graph, size_hw)
    file_input = read_input(model.graph, imgsz=size_hw)
    if (file_input.height, file_input.width) != size_hw:
        raise ModelFileError(
            f"spec: input: expected {file_input.height} {file_input.width}, as {path} has,"
            f" got {size_hw[0]} {size_hw[1]}"
        )
    if file_input.gray and spec.input.color != "RGB":
        raise ModelFileError(f"spec: input.color: expected RGB for a file of gray pictures, got {spec.input.color}")
    outputs = [
        _Output(role, index, Selector.parse(text))
        for index, level in enumerate(spec.decode.levels)
        for role in (("boxes",) if spec.decode.kind in WHOLE_KINDS else ("boxes", "objectness", "scores"))
        if (text := getattr(level, role)) is not None
    ]
    run_passes(model, [ToFloat32(), NormalizeInput(file_input), FoldConstants(), FoldIntoConvolutions()])
    try_prepared(to_proto(model), size_hw, path)
    values = {value.name: value for node in model.graph for value in node.outputs}
    missing = [output.part.tensor for output in outputs if output.part.tensor not in values]
    if len(missing) == len(outputs):
        return _understood(path, spec)
    if missing:
        raise ModelFileError(f"spec: {missing[0]}: expected a tensor of {path}, got a name that none has")
    sources = list(dict.fromkeys(output.part.tensor for output in outputs))
    difference = _verify(path, model, sources, lambda images: file_input.feed(images) | sizes, size_hw)
    _cut(model.graph, [(output, values[output.part.tensor]) for output in outputs], spec)
    infer_shapes(model)
    notes: list[str] = []
    proto = upgrade(to_proto(model), notes)
    found = _renamed(spec)
    _require_logits(proto, found)
    set_metadata(proto, METADATA_KEY, found.to_json())
    notes.insert(0, f"contract: of the spec given; tensors {', '.join(sources[:6])}{' …' if len(sources) > 6 else ''}")
    return ForeignModel(proto, found, tuple(notes), difference)


def _understood(path: Path, spec: ModelSpec) -> ForeignModel:
    """Return a file that edgedet cuts itself, with the given contract."""
    foreign = read_foreign(path, classes=spec.classes, imgsz=spec.input.size_hw)
    if foreign.spec.decode.output_names != spec.decode.output_names:
        names = ", ".join(spec.decode.output_names[:4])
        raise ModelFileError(
            f"spec: expected names of tensors of {path}, got {names}, …, which it does not have;"
            f" `edgedet inspect {path} --draft-spec` writes a spec to start from"
        )
    found = spec.replace(input=replace(spec.input, name=INPUT_NAME, layout="NCHW", dtype="float32"))
    set_metadata(foreign.model, METADATA_KEY, found.to_json())
    return replace(foreign, spec=found, notes=("contract: of the spec given", *foreign.notes))


def _cut(graph: ir.Graph, parts: list[tuple[_Output, ir.Value]], spec: ModelSpec) -> None:
    new = NewTensors(graph)
    free_names(graph, [output.name for output, _ in parts], new)
    made = []
    for output, value in parts:
        stride = spec.decode.levels[output.level].stride
        grid = spec.decode.kind not in ("queries", *WHOLE_KINDS)
        height, width = spec.input.size_hw
        if grid and (height % stride or width % stride):
            raise ModelFileError(f"spec: stride {stride}: expected one that divides the input's {height} and {width}")
        cells = (height // stride, width // stride) if grid else None
        raw = append_raw(graph, new, value, output.part, name=output.name, cells_hw=cells)
        made.append((output.name, raw))
    set_outputs(graph, [value for _, value in made])
    remove_dead(graph)
    for name, value in made:
        rename(value, name)
        value.type = ir.TensorType(ir.DataType.FLOAT)


def _renamed(spec: ModelSpec) -> ModelSpec:
    """Return the spec with our names for its outputs."""

    def named(index: int, level: LevelSpec) -> LevelSpec:
        if spec.decode.kind in WHOLE_KINDS:
            return replace(level, boxes=f"boxes_{index}", scores=f"boxes_{index}", objectness=None)
        scores = None if level.scores is None else f"scores_{index}"
        objectness = None if level.objectness is None else f"objectness_{index}"
        return replace(level, boxes=f"boxes_{index}", scores=scores, objectness=objectness)

    levels = tuple(named(i, level) for i, level in enumerate(spec.decode.levels))
    plain = replace(spec.input, name=INPUT_NAME, layout="NCHW", dtype="float32")
    return spec.replace(decode=replace(spec.decode, levels=levels), input=plain)


def _verify(path: Path, model: ir.Model, names: list[str], feed: Any, size_hw: tuple[int, int]) -> Difference:
    """Run the file and the prepared graph on noise; the named tensors must agree."""
    theirs = open_session(with_outputs(str(path), names), what="the file as given")
    ours = open_session(with_outputs(to_proto(model), names), what="the prepared file")
    images = np.random.default_rng(5).uniform(0, 1, (1, 3, *size_hw)).astype(np.float32)
    worst = 0.0
    pairs = zip(run(theirs, feed(images)), run(ours, {INPUT_NAME: images}), names, strict=True)
    for expected, got, name in pairs:
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        worst = max(worst, float(np.abs(got - expected.astype(np.float32)).max(initial=0)) / scale)
        if worst > TOLERANCE and expected.dtype == np.float32:
            raise CheckFailedError(f"{path}: {name}: expected what the file gives, got a difference of {worst:.3g}")
    return Difference(worst, worst, 0, 1)


def _require_logits(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    """Refuse scores that have gone through a sigmoid or softmax already: the runtime would apply another."""
    if spec.decode.kind in WHOLE_KINDS:
        return
    names = [name for lv in spec.decode.levels for name in (lv.objectness, lv.scores) if name is not None]
    session = open_session(proto)
    order = [value.name for value in proto.graph.output]
    rng = np.random.default_rng(6)
    seen: Mapping[str, list[Any]] = {name: [] for name in names}
    for spread in (1.0, 255.0):
        images = rng.uniform(0, spread, (1, 3, *spec.input.size_hw)).astype(np.float32)
        for name, array in zip(order, run(session, {INPUT_NAME: images}), strict=True):
            if name in seen:
                seen[name].append(array)
    for name, arrays in seen.items():
        values = np.concatenate([a.reshape(-1) for a in arrays])
        if values.size and values.min() >= 0 and values.max() <= 1:
            raise ModelFileError(
                f"spec: {name}: expected logits, got numbers from {values.min():.3g} to {values.max():.3g}, as behind a"
                " sigmoid; name the tensor before it"
            )
