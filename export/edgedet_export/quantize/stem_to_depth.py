"""Give the first convolution four times the channels on half the rows and columns, for onnxruntime.

A convolution of stride 2 over y, x equals one of stride 1 over 2x2 cells: input row 2o - p + r is row (r - p) mod 2 of
cell o + floor((r - p) / 2), and columns likewise. The weights move, absent taps are zero, and the sums stay the same
(the trick is that of the TPU submissions to MLPerf v0.6, where ResNet's stem is computed so).

onnxruntime's integer convolution gathers its input pixel by pixel, which for three channels costs more than the
products: YOLOv5n's 6x6 stem takes 5 of 14 ms, its 3x3 form on 12 channels 1.3 ms. The cells are made on the bytes
of a channels-last input, where two neighboring pixels lie side by side already, so that only rows are interleaved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors, prepend, remove_dead, set_input
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.graph.values import attribute, constant, elem_type, known_dims, only_reader
from edgedet_export.onnx_passes import OnnxPass, PassRecord

__all__ = ["StemToDepth"]

_MOST_CHANNELS = 4
_CHANNELS_FIRST = [0, 3, 1, 2]

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Stem:
    """A convolution that alone reads a uint8 NHWC input: input → Transpose → Cast → convolution."""

    image: ir.Value
    cast: ir.Node
    conv: ir.Node
    weight: Weights


class StemToDepth(OnnxPass):
    """Let the stem read 2x2 cells of the input; the model needs shapes, and gets those of the new tensors.

    Rewritten is a convolution of stride 2 over at most four channels that reads a uint8 NHWC input of even size, cast
    to float, and nothing else does. The tensor that it reads keeps its name, and holds the same numbers.
    """

    name = "stem-to-depth"

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrite the stem of each input in place, if it has one."""
        for image in model.graph.inputs:
            stem = _find(image)
            if stem is None:
                continue
            made, why = stem.conv.outputs[0], _unsuited(stem)
            if why:
                record.decline(made, why)
            else:
                _rewrite(model.graph, stem)
                record.change(made, "convolution of stride 2 → stride 1 over cells of 2x2 pixels")
        if record.changed:
            remove_dead(model.graph)
            infer_shapes(model)


def _find(image: ir.Value) -> _Stem | None:
    """Return the way of a graph input through Transpose and Cast into a convolution, if that is its only one."""
    read, nodes = image, []
    for op_type in ("Transpose", "Cast", "Conv"):
        node = only_reader(read)
        if node is None or node.op_type != op_type:
            return None
        nodes.append(node)
        read = node.outputs[0]
    transpose, cast, conv = nodes
    weight = constant(conv.inputs[1])
    if weight is None or elem_type(image) != ir.DataType.UINT8:
        return None
    return _Stem(image, cast, conv, weight) if attribute(transpose, "perm") == _CHANNELS_FIRST else None


def _unsuited(stem: _Stem) -> str:
    """Return why a stem cannot be computed on cells, or nothing."""
    shape, conv = known_dims(stem.image), stem.conv
    if shape is None or known_dims(conv.outputs[0]) is None:
        return "its size is not known"
    batch, height, width, channels = shape
    if (batch, height % 2, width % 2) != (1, 0, 0):
        return "the input has an odd side or a batch"
    if stem.weight.shape[1] != channels or channels > _MOST_CHANNELS:
        return f"it is grouped or has more than {_MOST_CHANNELS} channels"
    if attribute(conv, "auto_pad", "NOTSET") != "NOTSET":
        return "it pads by itself"
    dense = attribute(conv, "dilations") in (None, [1, 1])
    return "" if dense and attribute(conv, "strides") == [2, 2] else "its stride is not 2, or it is dilated"


def _rewrite(graph: ir.Graph, stem: _Stem) -> None:
    conv, image = stem.conv, stem.image
    shape, made = known_dims(image), known_dims(conv.outputs[0])
    assert shape is not None, "checked by _unsuited"
    assert made is not None, "checked by _unsuited"
    batch, height, width, channels = shape
    pad_rows, pad_columns, *_ = attribute(conv, "pads", [0, 0])
    rows, columns = height // 2, width // 2
    moved, (top, left) = _in_cells(stem.weight, (pad_rows, pad_columns))
    # The last output reads the last cells of its kernel, which lie at or behind the last cell of the picture.
    bottom, right = (
        out - 1 + kernel - before - cells
        for out, kernel, before, cells in zip(made[2:], moved.shape[2:], (top, left), (rows, columns), strict=True)
    )
    new = NewTensors(graph)

    def numbers(step: str, *values: int) -> ir.Value:
        return new.constant(f"{image.name}_{step}", np.array(values, np.int64))

    nodes: list[ir.Node] = []

    def node(op_type: str, inputs: list[ir.Value], *steps: str, **attributes: int | list[int]) -> list[ir.Value]:
        made = [new.value(f"{image.name}_{step}") for step in steps]
        nodes.append(ir.node(op_type, inputs, attributes, outputs=made, name=made[0].name))
        return made

    one_row = numbers("one_row", batch, rows, columns, 2 * channels)
    (pairs,) = node("Reshape", [image, numbers("two_rows", batch, rows, 2, columns, 2 * channels)], "row_pairs")
    even, odd = node("Split", [pairs, numbers("halves", 1, 1)], "even_rows", "odd_rows", axis=2)
    (even_cells,) = node("Reshape", [even, one_row], "even_cells")
    (odd_cells,) = node("Reshape", [odd, one_row], "odd_cells")
    (cells,) = node("Concat", [even_cells, odd_cells], "cells", axis=3)
    (first,) = node("Transpose", [cells], "cells_nchw", perm=_CHANNELS_FIRST)
    prepend(graph, nodes)
    set_input(stem.cast, 0, first)
    set_input(conv, 1, new.constant(f"{image.name}_weights", moved))
    conv.attributes.clear()
    conv.attributes["pads"] = ir.AttrInt64s("pads", [top, left, bottom, right])


def _in_cells(weight: Weights, pads: tuple[int, int]) -> tuple[Weights, tuple[int, int]]:
    """Return weights (O, 4C, …) over cells by row, column, channel, and the cells before the first."""
    out, channels, height, width = weight.shape
    before = tuple(-(-pad // 2) for pad in pads)
    after = tuple((size - 1 - pad) // 2 for size, pad in zip((height, width), pads, strict=True))
    moved = np.zeros((out, 2, 2, channels, before[0] + after[0] + 1, before[1] + after[1] + 1), np.float32)
    for r in range(height):
        for c in range(width):
            (y, row), (x, column) = divmod(r - pads[0], 2), divmod(c - pads[1], 2)
            moved[:, row, column, :, y + before[0], x + before[1]] = weight[:, :, r, c]
    return moved.reshape(out, 4 * channels, *moved.shape[4:]), (before[0], before[1])
