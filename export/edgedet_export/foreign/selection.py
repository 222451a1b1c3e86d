"""Selection in a foreign file's graph (NMS or the best k) is taken off; all candidates become its outputs.

A file with ``nms=True``, an "end to end" one and one of a one-to-one head (YOLOv10, YOLO26) end in detections. The
candidates that the selection chooses from are a tensor in the graph: of all that does not depend on the selection, has
one row per candidate and depends on every level of the head, the widest. Where boxes and scores never meet, it is two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.graph.edits import remove_dead, set_outputs
from edgedet_export.graph.values import constant, dims
from edgedet_export.graph.walks import walk_down, walk_up
from edgedet_export.onnx_passes import OnnxPass, PassRecord
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import Suppression

__all__ = ["Selection", "TakeOffSelection", "find_selection", "selects", "with_outputs"]

MAX_ANCHORS = 9


@dataclass(frozen=True, slots=True)
class Selection:
    """What a graph does with its candidates.

    Attributes:
        candidates: Names of the tensors of all candidates.
        suppression: ``nms`` where the graph holds an NMS, ``none`` where it takes the best k alone.
        iou: IoU threshold of that NMS; None where it is computed or absent.
    """

    candidates: tuple[str, ...]
    suppression: Suppression
    iou: float | None


def selects(graph: ir.Graph) -> bool:
    """Return whether a graph's outputs are chosen among its candidates."""
    return any(node.op_type in ("TopK", "NonMaxSuppression") for node in walk_up(graph.outputs))


def find_selection(graph: ir.Graph, levels: Sequence[HeadLevel]) -> Selection:
    """Find the candidates that a graph selects from.

    Args:
        graph: With a fixed input size and folded constants; `selects` is true of it.
        levels: Its head.

    Raises:
        ModelFileError: There is no such tensor.
    """
    chosen = [node for node in walk_up(graph.outputs) if node.op_type in ("TopK", "NonMaxSuppression")]
    behind = {*chosen, *walk_down([value for node in chosen for value in node.outputs])}
    heads = {conv.tensor for level in levels for conv in level.convs}
    cells = sum(level.cells for level in levels)
    found: list[tuple[int, int, ir.Value, frozenset[str]]] = []
    for order, node in enumerate(graph):
        if node in behind or node.op_type == "Conv":
            continue
        for value in node.outputs:
            width = _width(dims(value), cells)
            if width is not None:
                found.append((width, order, value, _heads_of(value, heads)))
    whole = [entry for entry in found if entry[3] == heads and entry[0] > 4]
    suppressions = [node for node in chosen if node.op_type == "NonMaxSuppression"]
    limit = constant(suppressions[0].inputs[3]) if suppressions and len(suppressions[0].inputs) > 3 else None
    iou = float(limit.reshape(-1)[0]) if limit is not None and limit.size == 1 else None
    kind: Suppression = "nms" if suppressions else "none"
    if whole:
        best = max(whole, key=lambda entry: entry[:2])
        return Selection((best[2].name or "",), kind, iou)
    boxes = [entry for entry in found if entry[0] == 4]
    scores = [entry for entry in found if boxes and not entry[3] <= boxes[-1][3]]
    if not boxes or not scores:
        operators = ", ".join(sorted({node.op_type for node in chosen}))
        raise ModelFileError(
            f"outputs: expected candidates before the selection in the graph ({operators}), got none with a row for"
            f" each of {cells} cells; export without NMS / end2end"
        )
    best = max(scores, key=lambda entry: entry[:2])
    return Selection((boxes[-1][2].name or "", best[2].name or ""), kind, iou)


def _width(size: tuple[int | None, ...] | None, cells: int) -> int | None:
    """Return the columns of a tensor (1, M, columns) or (1, columns, M) of all candidates; None for any other."""
    if size is None or len(size) != 3 or size[0] != 1:
        return None
    for rows, columns in ((size[1], size[2]), (size[2], size[1])):
        if rows and columns and rows % cells == 0 and rows // cells <= MAX_ANCHORS and columns < rows:
            return columns
    return None


def _heads_of(value: ir.Value, heads: set[str]) -> frozenset[str]:
    producer = value.producer()
    if producer is None:
        return frozenset()
    made = (out.name or "" for node in walk_up([value], stop=_is_head(heads)) for out in node.outputs)
    return frozenset(name for name in made if name in heads)


def _is_head(heads: set[str]) -> Callable[[ir.Node], bool]:
    return lambda node: any(out.name in heads for out in node.outputs)


def with_outputs(model: onnx.ModelProto | str, names: Sequence[str]) -> onnx.ModelProto:
    """Return a file as it is, with other tensors of its graph as its outputs."""
    proto = onnx.load(model) if isinstance(model, str) else onnx.ModelProto()
    if isinstance(model, onnx.ModelProto):
        proto.CopyFrom(model)
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return proto


class TakeOffSelection(OnnxPass):
    """Make the candidates the graph's outputs; what selected among them goes."""

    name = "take-off-selection"

    def __init__(self, selection: Selection) -> None:
        """Take what `find_selection` found."""
        self._selection = selection

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrite in place."""
        graph = model.graph
        values = {value.name: value for node in graph for value in node.outputs}
        kept = [values[name] for name in self._selection.candidates]
        set_outputs(graph, kept)
        for node in remove_dead(graph):
            record.change(node.outputs[0], f"{node.op_type} → nothing, as it only selects")
        for value in kept:
            record.change(value, "→ output, all candidates")
