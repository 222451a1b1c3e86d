"""Which channels of which tensors belong together, when one of them is scaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.graph.values import attribute, constant, dims, name_of

__all__ = ["ChannelLinks", "channel_factors"]

_SAME_CHANNELS = frozenset(
    {"AveragePool", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "Relu", "Resize", "Upsample"}
)
_GATES = frozenset({"HardSigmoid", "Sigmoid"})


def channel_factors(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """Return the constant (1, C, 1, 1), C > 1, that a Mul multiplies a tensor's channels by; None for other nodes."""
    constants = [c for c in map(constant, node.inputs) if c is not None] if node.op_type == "Mul" else []
    if len(constants) != 1 or constants[0].ndim != 4:
        return None
    factors = constants[0]
    return factors if factors.shape == (1, factors.size, 1, 1) and factors.size > 1 else None


class ChannelLinks:
    """Which channels of which tensors must share a factor, and which must keep 1: a union-find over channels.

    Attributes:
        total: Number of channels of all tensors.
        free: bool (total,), which groups may have a factor other than 1.
    """

    def __init__(self, graph: ir.Graph) -> None:
        """Follow the channels of a graph with shapes."""
        self._first: dict[str, int] = {}
        self._count: dict[str, int] = {}
        total = 0
        for value in [*graph.inputs, *(made for node in graph for made in node.outputs)]:
            shape = dims(value)
            channels = shape[1] if shape is not None and len(shape) == 4 else None
            if channels is not None and constant(value) is None:
                self._first[name_of(value)], self._count[name_of(value)] = total, channels
                total += channels
        self.total = total
        self._parent = np.arange(total)
        self._fixed = np.zeros(total, np.bool_)
        for value in (*graph.inputs, *graph.outputs):
            self._fix(name_of(value))
        for node in graph:
            self._visit(node)
        self._root = np.array([self._find(i) for i in range(total)], np.intp)
        fixed_roots = np.zeros(total, np.bool_)
        fixed_roots[self._root[self._fixed]] = True
        self.free = ~fixed_roots[self._root]

    def groups(self, tensor: str) -> npt.NDArray[np.intp]:
        """Return the groups of a tensor's channels, intp (C,)."""
        first = self._first[tensor]
        return np.asarray(self._root[first : first + self._count[tensor]], np.intp)

    def __contains__(self, tensor: str) -> bool:
        """Return whether a tensor has channels (four dimensions, as many channels as the shapes say)."""
        return tensor in self._first

    def _visit(self, node: ir.Node) -> None:
        read = [v for v in node.inputs if v is not None and v.name in self._first]
        data = [name_of(v) for v in read]
        made = [name_of(v) for v in node.outputs if v.name in self._first]
        if node.op_type == "Conv" and len(data) == len(made) == 1:
            if all(constant(number) is not None for number in node.inputs[1:] if number is not None):
                return None  # absorbs factors on both sides
        elif node.op_type in _SAME_CHANNELS and len(data) == len(made) == 1:
            return self._join(data[0], made[0])
        elif node.op_type == "Concat" and attribute(node, "axis") in (1, -3) and len(data) == len(node.inputs):
            return self._join_parts(data, made[0])
        elif node.op_type == "Split" and attribute(node, "axis") in (1, -3) and len(made) == len(node.outputs):
            return self._join_parts(made, data[0])
        elif node.op_type == "Add" and len(data) == 2 and self._count[data[0]] == self._count[data[1]]:
            self._join(data[0], made[0])
            return self._join(data[1], made[0])
        elif channel_factors(node) is not None:
            return None  # absorbs factors on both sides
        elif node.op_type == "Mul" and len(data) == 2 and self._count[data[0]] == self._count[data[1]]:
            gates = [name_of(v) for v in read if (p := v.producer()) is not None and p.op_type in _GATES]
            if len(gates) == 1:  # what makes it has fixed the gate itself
                return self._join(data[1 - data.index(gates[0])], made[0])
        for name in (*data, *made):
            self._fix(name)
        return None

    def _fix(self, tensor: str) -> None:
        if tensor in self._first:
            first = self._first[tensor]
            self._fixed[first : first + self._count[tensor]] = True

    def _join(self, tensor: str, other: str, there: int = 0) -> None:
        """Link the channels of `tensor` with those of `other` from `there` on."""
        a, b = self._first[tensor], self._first[other] + there
        for i in range(self._count[tensor]):
            x, y = self._find(a + i), self._find(b + i)
            if x != y:
                self._parent[x] = y

    def _join_parts(self, parts: Sequence[str], whole: str) -> None:
        """Link tensors with the channels of the one that they are parts of, in order."""
        start = 0
        for name in parts:
            self._join(name, whole, there=start)
            start += self._count[name]

    def _find(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = int(self._parent[i])
        return i
