"""Cut a foreign graph at its head: raw outputs by our names, one convolution for each.

A joint convolution that makes boxes, objectness and classes of all anchors is split into three: its output channels
are rows of its weight, so this is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.foreign.interpretation import Interpretation
from edgedet_export.onnx_graph import OnnxGraph, attribute
from edgedet_runtime.errors import ModelFileError

__all__ = ["cut_at_heads"]


def cut_at_heads(graph: OnnxGraph, levels: Sequence[HeadLevel], found: Interpretation) -> None:
    """Make the raw heads the graph's outputs, in the order of ``found.decode.output_names``, in place.

    Raises:
        ModelFileError: A joint convolution is grouped or its weight is no constant, so it cannot be split.
    """
    moved = _free_names(graph, found)
    levels = [
        replace(lv, convs=tuple(replace(c, tensor=moved.get(c.tensor, c.tensor)) for c in lv.convs)) for lv in levels
    ]
    shapes: dict[str, tuple[int, ...]] = {}
    for index, level in enumerate(levels):
        take = _split if found.roles.boxes is None else _rename
        made = take(graph, level, index, found)
        shapes |= {name: (1, channels, level.height, level.width) for name, channels in made.items()}
    graph.set_outputs({name: shapes[name] for name in found.decode.output_names})
    graph.remove_dead()
    graph.infer_shapes()


def _free_names(graph: OnnxGraph, found: Interpretation) -> dict[str, str]:
    """Rename inner tensors that happen to have one of our names; return old name to new name."""
    graph.set_outputs({})
    moved: dict[str, str] = {}
    for name in found.decode.output_names:
        if graph.unique_name(name) != name:
            moved[name] = graph.unique_name(f"inner_{name}")
            graph.rename(name, moved[name])
    return moved


def _rename(graph: OnnxGraph, level: HeadLevel, index: int, found: Interpretation) -> dict[str, int]:
    spec = found.decode.levels[index]
    roles = {found.roles.boxes: spec.boxes, found.roles.objectness: spec.objectness, found.roles.scores: spec.scores}
    made: dict[str, int] = {}
    for position, conv in enumerate(level.convs):
        name = roles.get(position)
        if name is not None:
            graph.rename(conv.tensor, name)
            made[name] = conv.channels
    return made


def _split(graph: OnnxGraph, level: HeadLevel, index: int, found: Interpretation) -> dict[str, int]:
    conv = graph.producer(level.convs[0].tensor)
    assert conv is not None, "the head convolutions were found by their outputs"
    weight = graph.constant(conv.input[1])
    biased = len(conv.input) > 2 and bool(conv.input[2])
    bias = graph.constant(conv.input[2]) if biased else None
    if weight is None or (biased and bias is None) or attribute(conv, "group", 1) != 1:
        raise ModelFileError(
            f"head convolution at stride {level.stride}: expected constant, ungrouped weights to split, got"
            f" group {attribute(conv, 'group', 1)} and inputs {', '.join(conv.input)}"
        )
    channels = found.parts(index, [np.arange(weight.shape[0]).reshape(-1, 1, 1)])
    new = [_select(graph, conv, name, rows.reshape(-1), weight, bias) for name, rows in channels.items()]
    graph.add_nodes(new)
    return {name: rows.size for name, rows in channels.items()}


def _select(
    graph: OnnxGraph,
    conv: onnx.NodeProto,
    name: str,
    rows: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
) -> onnx.NodeProto:
    """Return a convolution that computes some of another's output channels, in the order of `rows`."""
    inputs = [conv.input[0], graph.add_constant(f"{name}_weight", weight[rows])]
    if bias is not None:
        inputs.append(graph.add_constant(f"{name}_bias", bias[rows]))
    node = helper.make_node("Conv", inputs, [name], name=f"{name}_conv")
    node.attribute.extend(conv.attribute)
    return node
