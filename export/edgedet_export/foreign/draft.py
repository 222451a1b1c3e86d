"""A first spec of an ONNX file that edgedet does not understand, with the questions that the file leaves open.

The draft is a JSON document: ``spec`` has the contract's fields (`edgedet_runtime.spec.ModelSpec`), null where only a
person can say; ``questions`` says what to find out. ``edgedet export FILE --spec`` takes it once no null is left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgedet_export.foreign.detr import queries_spec
from edgedet_export.foreign.file_input import INPUT_NAME, NormalizeInput, read_input
from edgedet_export.foreign.fold_constants import FoldConstants
from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions
from edgedet_export.foreign.half import ToFloat32
from edgedet_export.foreign.heads import HeadLevel, find_heads
from edgedet_export.foreign.importer import class_names_of, read_foreign
from edgedet_export.foreign.origin import origin_of
from edgedet_export.foreign.tail import Tail
from edgedet_export.graph.conversion import load_model
from edgedet_export.onnx_passes import run_passes
from edgedet_runtime.errors import CheckFailedError, EdgedetError, ModelFileError
from edgedet_runtime.licence_text import licence_of

__all__ = ["draft_spec"]

Json = dict[str, Any]
INPUT_QUESTION = (
    "input: color order, scale, mean and std of the network's preprocessing: value = (pixel * scale - mean) / std"
)


def draft_spec(path: Path, *, family: str | None = None, imgsz: tuple[int, int] | None = None) -> Json:
    """Return the best guess at a file's spec, and what remains to be answered.

    Args:
        path: The ONNX file.
        family: As for an export.
        imgsz: Height and width, where the file leaves them open.

    Raises:
        ModelFileError: It is no ONNX file of one image input, or has no head that could be drafted.
    """
    try:
        foreign = read_foreign(path, family=family, imgsz=imgsz)
    except (ModelFileError, CheckFailedError) as e:
        told = queries_spec(path, imgsz=imgsz)
        if told is None:
            return _guess(path, imgsz, why=str(e))
        return {"spec": json.loads(told[0].to_json()), "questions": [INPUT_QUESTION], "notes": list(told[1])}
    return {"spec": json.loads(foreign.spec.to_json()), "questions": [], "notes": list(foreign.notes)}


def _guess(path: Path, imgsz: tuple[int, int] | None, *, why: str) -> Json:
    model = load_model(path)
    metadata = dict(model.metadata_props)
    file_input = read_input(model.graph, imgsz=imgsz or origin_of(metadata).size_hw)
    size_hw = (file_input.height, file_input.width)
    run_passes(model, [ToFloat32(), NormalizeInput(file_input), FoldConstants(), FoldIntoConvolutions()])
    questions = [INPUT_QUESTION, "resize: letterbox, letterbox-topleft or stretch"]
    decode, classes = _levels(model, find_heads(model.graph, size_hw), questions)
    names = class_names_of(metadata.get("names", ""), classes)
    if names is None:
        questions.append(f"classes: the names of the {classes} classes, in the order of their ids")
    spec = {
        "family": "custom",
        "variant": path.stem,
        "input": {
            "name": INPUT_NAME,
            "height": size_hw[0],
            "width": size_hw[1],
            "layout": "NCHW",
            "dtype": "float32",
            "color": None,
            "scale": None,
            "mean": None,
            "std": None,
        },
        "resize": {"mode": None},
        "decode": decode,
        "classes": names or [f"class{i}" for i in range(classes)],
        "thresholds": {"conf": 0.25, "iou": 0.45},
        "licence": licence_of(metadata) or "unknown",
        "spec_version": 2,
    }
    return {"spec": spec, "questions": questions, "notes": [why]}


def _levels(model: ir.Model, levels: tuple[HeadLevel, ...], questions: list[str]) -> tuple[Json, int]:
    """Guess a head on a grid by the channels of its convolutions."""
    if any(len(level.convs) != len(levels[0].convs) for level in levels):
        raise ModelFileError("draft: expected as many convolutions on each level of the head, got different numbers")
    if len(levels[0].convs) == 1:
        parts, kind, bins, classes = _joint(model, levels, questions)
    else:
        parts, kind, bins, classes = _apart(levels, questions)
    entries = []
    for level in levels:
        named = {role: f"{level.convs[i].tensor}{ranges}" for role, (i, ranges) in parts.items()}
        entries.append({"stride": level.stride, "objectness": None, "scores": None, **named})
    score = "obj*cls" if "objectness" in parts else "cls"
    questions.append("decode.kind: how four numbers become a box; see the kinds in the schema of the spec")
    questions.append("decode.cell_offset: 0.5 where a cell's point is its middle, 0 where it is its corner")
    return {"kind": kind, "levels": entries, "score": score, "bins": bins, "cell_offset": 0.5}, classes


def _apart(levels: tuple[HeadLevel, ...], questions: list[str]) -> tuple[dict[str, tuple[int, str]], str, int, int]:
    """Guess roles of a level's convolutions: 4 channels, or 4 times the bins, are the box; 1 is the objectness."""
    channels = [conv.channels for conv in levels[0].convs]
    names = [conv.tensor.lower() for conv in levels[0].convs]
    boxes = (
        channels.index(4)
        if 4 in channels
        else max(range(len(channels)), key=lambda i: (channels[i] % 4 == 0, channels[i]))
    )
    others = [i for i in range(len(channels)) if i != boxes]
    objectness = next((i for i in others if "obj" in names[i]), None)
    if objectness is None and len(others) > 1:
        objectness = next((i for i in others if channels[i] == 1), None)
    rest = [i for i in others if i != objectness]
    points = [i for i in rest if channels[i] in (10, 8) and len(rest) > 1]
    rest = [i for i in rest if i not in points] or rest
    for i in points:
        questions.append(f"{names[i]}: taken for landmarks ({channels[i]} numbers) and left out; is that so?")
    if len(others) > 1:
        told = ", ".join(f"{levels[0].convs[i].tensor} ({channels[i]})" for i in others)
        questions.append(f"decode.levels: which of {told} is the objectness, which the classes?")
    parts = {"boxes": (boxes, ""), "scores": (rest[0], "")}
    if objectness is not None:
        parts["objectness"] = (objectness, "")
    bins = channels[boxes] // 4 if channels[boxes] > 4 else 0
    kind = "dfl" if bins else "points-exp" if objectness is not None else "ltrb"
    return parts, kind, bins, channels[rest[0]]


def _joint(
    model: ir.Model, levels: tuple[HeadLevel, ...], questions: list[str]
) -> tuple[dict[str, tuple[int, str]], str, int, int]:
    """Guess roles within one convolution by which of its channels the file puts through a sigmoid."""
    total = levels[0].convs[0].channels
    sigmoids = _sigmoid_channels(Tail(model, levels))
    first = [i for i in range(total) if i in sigmoids]
    contiguous = bool(first) and first == list(range(first[0], first[-1] + 1))
    if not contiguous or (total - len(first)) % 4 or total == len(first):
        questions.append(
            f"decode.levels: which of the {total} channels are boxes, which scores? name[first:end] says it"
        )
        first = list(range(4, total))
    start, end = first[0], first[-1] + 1
    boxes = (0, start) if start else (end, total)
    bins = (boxes[1] - boxes[0]) // 4 if boxes[1] - boxes[0] > 4 else 0
    parts = {"boxes": (0, f"[{boxes[0]}:{boxes[1]}]"), "scores": (0, f"[{start}:{end}]")}
    return parts, "dfl" if bins else "ltrb", bins, end - start


def _sigmoid_channels(tail: Tail) -> set[int]:
    """Return the channels of the finest level whose sigmoid stands in the file's outputs."""
    raw = tail.random(seed=1)
    try:
        outputs = np.concatenate([np.asarray(o, np.float32).reshape(-1) for o in tail.run(raw).values()])
    except EdgedetError:
        return set()
    seen = np.sort(outputs)
    values = 1 / (1 + np.exp(-raw[0][0].reshape(len(raw[0][0]), -1).astype(np.float64)))
    place = np.clip(np.searchsorted(seen, values), 1, len(seen) - 1)
    near = np.minimum(np.abs(seen[place] - values), np.abs(seen[place - 1] - values)) < 1e-7
    return {channel for channel, hits in enumerate(near) if hits.mean() > 0.95}
