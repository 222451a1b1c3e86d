"""Find a detector's head by topology: the last convolutions before the outputs, grouped by resolution.

From the graph's outputs upwards everything is bookkeeping (reshape, transpose, concat, sigmoid, grid arithmetic)
until the first convolution on each path; these are the head's. Names play no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgedet_export.graph.values import attribute, constant, dims
from edgedet_export.graph.walks import nodes_of, walk_up
from edgedet_runtime.errors import ModelFileError

__all__ = ["HeadConv", "HeadLevel", "describe_outputs", "find_heads"]

_WEIGHTED = ("ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU")
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear")
_SUPPRESSION = ("EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT")


@dataclass(frozen=True, slots=True)
class HeadConv:
    """One of the head's last convolutions.

    Attributes:
        tensor: Its output's name.
        channels: Channels of its output.
    """

    tensor: str
    channels: int


@dataclass(frozen=True, slots=True)
class HeadLevel:
    """The head's convolutions at one resolution.

    Attributes:
        stride: Input pixels per cell.
        height: Rows of cells.
        width: Columns of cells.
        convs: The convolutions, in graph order.
    """

    stride: int
    height: int
    width: int
    convs: tuple[HeadConv, ...]

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.height * self.width


def describe_outputs(graph: ir.Graph) -> str:
    """Say for people what a graph gives out: name, shape, and the operator that makes it."""
    parts = []
    for value in graph.outputs:
        size, maker = dims(value), value.producer()
        shape = "?" if size is None else ", ".join("?" if d is None else str(d) for d in size)
        parts.append(f"{value.name} [{shape}]" + (f" from {maker.op_type}" if maker is not None else ""))
    return "; ".join(parts[:6]) + (f"; and {len(parts) - 6} more" if len(parts) > 6 else "")


def find_heads(graph: ir.Graph, size_hw: tuple[int, int]) -> tuple[HeadLevel, ...]:
    """Find the head's convolutions, finest level first.

    Args:
        graph: With a fixed input size and folded constants.
        size_hw: Height and width of the input.

    Raises:
        ModelFileError: The file is quantised, ends in non-maximum suppression, or has no such head.
    """
    quantised = nodes_of(graph, *_QUANTISED)
    if quantised:
        raise ModelFileError(
            f"ONNX file: expected a float model, got a quantised one ({quantised[0].op_type}); give the FP32 file"
        )
    convs: set[ir.Node] = set()
    for node in walk_up(graph.outputs, stop=_is_head_conv):
        if _is_head_conv(node):
            convs.add(node)
        elif node.op_type in _SUPPRESSION:
            raise ModelFileError(
                f"outputs: expected raw or decoded candidates, got {node.op_type} in the graph"
                f" ({describe_outputs(graph)}); export without NMS / end2end"
            )
        elif node.op_type in _WEIGHTED and not _all_constant(node):
            raise ModelFileError(
                f"outputs: expected a detector that ends in convolutions, got {node.op_type} before"
                f" {describe_outputs(graph)}"
            )
    levels: dict[tuple[int, int], list[HeadConv]] = {}
    for node in (node for node in graph if node in convs):
        made = node.outputs[0]
        size = dims(made)
        if size is None or len(size) != 4 or any(d is None for d in size):
            raise ModelFileError(f"head: expected known shapes, got {size} at {made.name}; fix it with `imgsz`")
        _, channels, height, width = (int(d or 0) for d in size)
        levels.setdefault((height, width), []).append(HeadConv(made.name or "", channels))
    if not levels:
        raise ModelFileError(f"outputs: expected a convolutional head, got none before {describe_outputs(graph)}")
    found = [HeadLevel(_stride(size_hw, cells_hw), *cells_hw, tuple(at)) for cells_hw, at in levels.items()]
    return tuple(sorted(found, key=lambda level: -level.cells))


def _stride(size_hw: tuple[int, int], cells_hw: tuple[int, int]) -> int:
    strides = {size_hw[0] / cells_hw[0], size_hw[1] / cells_hw[1]}
    if len(strides) != 1 or not next(iter(strides)).is_integer():
        raise ModelFileError(
            f"head: expected one whole stride for input {size_hw[0]}×{size_hw[1]},"
            f" got cells {cells_hw[0]}×{cells_hw[1]}"
        )
    return int(next(iter(strides)))


def _is_head_conv(node: ir.Node) -> bool:
    """True for convolutions that learn; false for the fixed projection that takes a distribution's expectation."""
    return node.op_type == "Conv" and not _is_projection(node)


def _is_projection(node: ir.Node) -> bool:
    weight = constant(node.inputs[1])
    if weight is None or weight.shape[0] != 1 or weight.size < 2 or attribute(node, "group", 1) != 1:
        return False
    return bool(np.array_equal(weight.reshape(-1), np.arange(weight.size)))


def _all_constant(node: ir.Node) -> bool:
    return all(constant(value) is not None for value in node.inputs if value is not None)
