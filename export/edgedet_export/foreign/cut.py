"""Cut a foreign graph at its head: raw outputs by our names, one convolution for each.

A joint convolution that makes boxes, objectness and classes of all anchors is split into three: its output channels
are rows of its weight, so this is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.foreign.interpretation import Interpretation
from edgedet_export.graph.edits import NewTensors, by_name, free_names, remove_dead, rename, set_outputs
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import Array, attribute, constant, input_at
from edgedet_export.onnx_passes import OnnxPass, PassRecord, RequirementError

__all__ = ["CutAtHeads"]


class CutAtHeads(OnnxPass):
    """Make the raw heads the graph's outputs, in the order of ``found.decode.output_names``."""

    name = "cut-at-heads"

    def __init__(self, levels: Sequence[HeadLevel], found: Interpretation) -> None:
        """Take the head's convolutions and what they were found to be."""
        self._levels = levels
        self._found = found

    def requires(self, model: ir.Model) -> None:
        """Refuse a joint convolution that is grouped or whose weights are not constant: it cannot be split."""
        values = by_name(model.graph)
        for level in self._levels:
            for conv in level.convs:
                value = values.get(conv.tensor)
                maker = None if value is None else value.producer()
                if maker is None:
                    raise RequirementError(f"head convolution {conv.tensor}: expected it in the graph, got none")
                if self._found.roles.boxes is None:
                    _weights(maker, level)

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Cut in place, drop what lies behind, and infer shapes."""
        graph = model.graph
        values = by_name(graph)
        names = self._found.decode.output_names
        set_outputs(graph, [])
        new = NewTensors(graph)
        free_names(graph, names, new)
        made: dict[str, ir.Value] = {}
        for index, level in enumerate(self._levels):
            if self._found.roles.boxes is None:
                made |= self._split(graph, new, level, index, values, record)
            else:
                made |= self._rename(level, index, values, record)
        set_outputs(graph, [made[name] for name in names])
        remove_dead(graph)
        infer_shapes(model)

    def _rename(
        self, level: HeadLevel, index: int, values: Mapping[str, ir.Value], record: PassRecord
    ) -> dict[str, ir.Value]:
        spec, roles = self._found.decode.levels[index], self._found.roles
        named = {roles.boxes: spec.boxes, roles.objectness: spec.objectness, roles.scores: spec.scores}
        made: dict[str, ir.Value] = {}
        for position, conv in enumerate(level.convs):
            name = named.get(position)
            if name is not None:
                record.change(conv.tensor, f"convolution → output {name}")
                rename(values[conv.tensor], name)
                made[name] = values[conv.tensor]
        return made

    def _split(
        self,
        graph: ir.Graph,
        new: NewTensors,
        level: HeadLevel,
        index: int,
        values: Mapping[str, ir.Value],
        record: PassRecord,
    ) -> dict[str, ir.Value]:
        conv = values[level.convs[0].tensor].producer()
        assert conv is not None, "checked by requires"
        weight, bias = _weights(conv, level)
        channels = self._found.parts(index, [np.arange(weight.shape[0]).reshape(-1, 1, 1)])
        nodes = [_select(new, conv, name, rows.reshape(-1), weight, bias) for name, rows in channels.items()]
        graph.insert_after(conv, nodes)
        record.change(level.convs[0].tensor, f"joint convolution → {', '.join(channels)}")
        return {node.outputs[0].name or "": node.outputs[0] for node in nodes}


def _weights(conv: ir.Node, level: HeadLevel) -> tuple[Array, Array | None]:
    """Return the weight and the bias of a convolution that can be split."""
    weight, biased = constant(conv.inputs[1]), input_at(conv, 2) is not None
    bias = constant(input_at(conv, 2))
    if weight is None or (biased and bias is None) or attribute(conv, "group", 1) != 1:
        raise RequirementError(
            f"head convolution at stride {level.stride}: expected constant, ungrouped weights to split, got group"
            f" {attribute(conv, 'group', 1)} and inputs {', '.join(v.name or '' for v in conv.inputs if v is not None)}"
        )
    return weight, bias


def _select(
    new: NewTensors, conv: ir.Node, name: str, rows: npt.NDArray[np.int64], weight: Array, bias: Array | None
) -> ir.Node:
    """Return a convolution that computes some of another's output channels, in the order of `rows`."""
    inputs = [conv.inputs[0], new.constant(f"{name}_weight", weight[rows])]
    if bias is not None:
        inputs.append(new.constant(f"{name}_bias", bias[rows]))
    made = ir.val(new.name(name), ir.DataType.FLOAT)
    return ir.Node("", "Conv", inputs, list(conv.attributes.values()), outputs=[made], name=f"{name}_conv")
