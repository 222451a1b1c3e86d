"""Names within an ONNX graph: what is read must be made by something, and kernels must be kernels.

An engine that looks up a tensor which nothing makes finds nothing, and goes on with that: OpenCV 5.0 divides by the
zero channels of a kernel that is not there. So it does where a step or the number of groups is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedet_runtime.model_check.outline import Fault
from edgedet_runtime.printable import shown

__all__ = ["POSITIVE", "Scope", "check_positive", "refuse_unmade"]

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger"})

POSITIVE = frozenset({"strides", "dilations", "kernel_shape", "group", "blocksize"})
"""Attributes whose numbers divide something or say how much there is of it."""


def check_positive(name: str, numbers: list[int]) -> None:
    """Refuse numbers of a `POSITIVE` attribute that are none.

    Raises:
        Fault: One is 0, negative or beyond int32.
    """
    odd = next((number for number in numbers if not 0 < number < 2**31), None)
    if odd is not None:
        raise Fault(f"attributes: expected {name} of 1 or more, got {odd}")


@dataclass(slots=True)
class Scope:
    """The names of one graph.

    Attributes:
        made: Names that the graph makes.
        read: Names that are read → the operator that does.
        kernels: Names that convolutions take as kernels.
        weights: Names of initializers → their shape.
    """

    made: set[str] = field(default_factory=set)
    read: dict[str, str] = field(default_factory=dict)
    kernels: set[str] = field(default_factory=set)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add_node(self, op_type: str, inputs: list[str], outputs: list[str]) -> None:
        """Take a node.

        Raises:
            Fault: Something else makes one of its outputs.
        """
        for name in inputs:
            if name:
                self.read.setdefault(name, op_type)
        if op_type in _CONVOLUTIONS and len(inputs) > 1:
            self.kernels.add(inputs[1])
        for name in outputs:
            if name in self.made:
                raise Fault(f"tensor {shown(name)}: expected one producer, got two")
            if name:
                self.made.add(name)

    def left(self) -> dict[str, str]:
        """Return names that are read and not made here, which the graph around this one may make.

        Raises:
            Fault: A kernel has no elements, or a shape that no kernel has.
        """
        for name in self.kernels & set(self.weights):
            shape = self.weights[name]
            if not 3 <= len(shape) <= 5 or not all(shape):
                size = "×".join(map(str, shape)) or "a number"
                raise Fault(f"weights {shown(name)}: expected a kernel of 3 to 5 dimensions, none 0, got {size}")
        return {name: op for name, op in self.read.items() if name not in self.made and name not in self.weights}


def refuse_unmade(left: dict[str, str]) -> None:
    """Refuse names that nothing makes.

    Raises:
        Fault: There is one.
    """
    if left:
        name, op_type = next(iter(left.items()))
        raise Fault(f"tensor {shown(name)}, read by {shown(op_type)}: expected a maker, got none")
