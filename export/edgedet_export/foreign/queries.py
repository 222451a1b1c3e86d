"""Sets of queries (RT-DETR, D-FINE, DEIM) in a foreign file: which tensors are the boxes and the class logits.

Seen in the field: boxes (1, Q, 4) and logits (1, Q, classes) as outputs; one output (1, Q, 4 + classes) with a sigmoid
on the classes; and detections that a TopK over all pairs of query and class chose, with boxes as corners in pixels of a
picture whose size is a second input. The boxes are found by running the file: what it gives must be the candidates'
boxes, or their corners, or those times the picture's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.foreign.file_input import INPUT_NAME
from edgedet_export.foreign.selection import with_outputs
from edgedet_export.foreign.session import open_session, run
from edgedet_export.graph.conversion import to_proto
from edgedet_export.graph.edits import NewTensors, replace_uses
from edgedet_export.graph.values import dims, elem_type
from edgedet_export.graph.walks import walk_up

__all__ = ["QuerySet", "find_queries", "fix_picture_size"]

Array = npt.NDArray[Any]
QUIET = ("Reshape", "Flatten", "ReduceMax", "Identity", "Squeeze", "Unsqueeze", "Transpose", "Cast")
MAX_CANDIDATES = 60
MAX_FRACTION = 4.0
"""Larger numbers than this are no fractions of a picture, however far beyond its edges."""


@dataclass(frozen=True, slots=True)
class QuerySet:
    """What was found.

    Attributes:
        boxes: Name of the tensor of boxes, center and size, (1, Q, 4).
        logits: Name of the tensor of class logits, (1, Q, classes).
        classes: Number of classes.
        in_fractions: Boxes are fractions of the picture instead of pixels.
        evidence: How the boxes were told, for people.
    """

    boxes: str
    logits: str
    classes: int
    in_fractions: bool
    evidence: str


def fix_picture_size(graph: ir.Graph, size_hw: tuple[int, int]) -> dict[str, Array]:
    """Replace a second input, the picture's width and height as (1, 2) or (N, 2) integers, by the input's own size.

    Returns:
        What to feed to the untouched file for it; empty where there is no such input.
    """
    fed: dict[str, Array] = {}
    for value in list(graph.inputs):
        size = dims(value)
        if (
            size is None
            or len(size) != 2
            or size[1] != 2
            or elem_type(value) not in (ir.DataType.INT64, ir.DataType.INT32)
        ):
            continue
        dtype = np.int64 if elem_type(value) == ir.DataType.INT64 else np.int32
        array = np.array([[size_hw[1], size_hw[0]]], dtype)
        fed[value.name or ""] = array
        replace_uses(value, NewTensors(graph).constant(f"{value.name}_fixed", array))
        graph.inputs.remove(value)
    return fed


def find_queries(model: ir.Model, size_hw: tuple[int, int]) -> QuerySet | None:
    """Find a set of queries; None where the file ends in something else.

    Args:
        model: With a fixed input `images` and folded constants.
        size_hw: Height and width of the input.
    """
    graph = model.graph
    logits = _logits(graph)
    size = None if logits is None else dims(logits)
    if logits is None or size is None or len(size) != 3 or not size[1] or not size[2]:
        return None
    queries, classes = int(size[1]), int(size[2])
    boxes = [
        value
        for node in walk_up(graph.outputs)
        for value in node.outputs
        if dims(value) == (1, queries, 4) and value is not logits and elem_type(value) == ir.DataType.FLOAT
    ][:MAX_CANDIDATES]
    final = _final_boxes(graph, boxes, queries)
    if final is None:
        return None
    names = list(dict.fromkeys(value.name or "" for value in [final, *boxes]))
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (1, 3, *size_hw)).astype(np.float32)
    session = open_session(with_outputs(to_proto(model), names), what="the file's decoder")
    seen: Mapping[str, Array] = dict(zip(names, run(session, {INPUT_NAME: images}), strict=True))
    return _told(seen, final.name or "", logits.name or "", classes, size_hw)


def _told(seen: Mapping[str, Array], final: str, logits: str, classes: int, size_hw: tuple[int, int]) -> QuerySet:
    unit = np.array([size_hw[1], size_hw[0]] * 2, np.float64)
    given = seen[final].astype(np.float64)
    forms: tuple[tuple[str, Callable[[Array], Array], bool], ...] = (
        ("corners in pixels", lambda b: _corners(b) * unit, True),
        ("corners in fractions", _corners, True),
        ("center and size in pixels", lambda b: b * unit, True),
    )
    small = {n: a.astype(np.float64) for n, a in seen.items() if n != final and np.abs(a).max() <= MAX_FRACTION}
    for words, form, in_fractions in forms:  # corners first: corners in fractions, times a size, are no center and size
        for name, boxes in small.items():
            made = form(boxes)
            if np.abs(made - given).max() <= 1e-4 * max(1.0, np.abs(given).max()):
                return QuerySet(name, logits, classes, in_fractions, f"{words} in the file, read before that")
    fractions = bool(np.abs(given).max() <= MAX_FRACTION)
    return QuerySet(final, logits, classes, fractions, "taken as center and size, as RT-DETR and D-FINE have them")


def _corners(boxes: Array) -> Array:
    half = boxes[..., 2:] / 2
    return np.concatenate((boxes[..., :2] - half, boxes[..., :2] + half), axis=-1)


def _logits(graph: ir.Graph) -> ir.Value | None:
    """Return the class logits: an output beside boxes, or what the last sigmoid on a set of queries reads."""
    sizes = {value: dims(value) or () for value in graph.outputs}
    boxes = [value for value, size in sizes.items() if len(size) == 3 and size[2] == 4]
    beside = [
        v for v, size in sizes.items() if boxes and len(size) == 3 and size[:2] == sizes[boxes[0]][:2] and v != boxes[0]
    ]
    if len(beside) == 1:
        return _before_sigmoid(beside[0])
    joint = [node for value in graph.outputs if (node := value.producer()) is not None and node.op_type == "Concat"]
    for node in joint:
        for value in reversed(node.inputs[1:]):  # boxes come first
            producer = None if value is None else value.producer()
            if producer is not None and producer.op_type == "Sigmoid" and len(dims(producer.inputs[0]) or ()) == 3:
                return producer.inputs[0]
    tops = [node for node in graph if node.op_type == "TopK"]
    for node in reversed(tops):
        value = node.inputs[0]
        while value is not None and (maker := value.producer()) is not None and maker.op_type in QUIET:
            value = maker.inputs[0]
        maker = None if value is None else value.producer()
        if maker is not None and maker.op_type == "Sigmoid":
            return maker.inputs[0]
    return None


def _before_sigmoid(value: ir.Value) -> ir.Value | None:
    producer = value.producer()
    return producer.inputs[0] if producer is not None and producer.op_type == "Sigmoid" else value


def _final_boxes(graph: ir.Graph, boxes: list[ir.Value], queries: int) -> ir.Value | None:
    """Return the boxes that the file gives out, or chooses its detections from."""
    outputs = [value for value in graph.outputs if dims(value) == (1, queries, 4)]
    if outputs:
        producer = outputs[0].producer()
        chosen = producer is not None and producer.op_type.startswith("Gather")
        return producer.inputs[0] if producer is not None and chosen else outputs[0]
    order = {node: index for index, node in enumerate(graph)}
    nodes = [value.producer() for value in boxes]
    places = [-1 if node is None else order.get(node, -1) for node in nodes]
    gathered = [
        node.inputs[0]
        for node in reversed(list(graph))
        if node.op_type.startswith("Gather") and node.inputs[0] in boxes
    ]
    if gathered:
        return gathered[0]
    return boxes[places.index(max(places))] if boxes else None
