"""What a checked model file declares of itself, and the faults that a check finds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LARGEST_TENSOR", "Fault", "Outline"]

LARGEST_TENSOR = 2**31 - 1
"""Elements of a tensor, at most; what engines hold in int32 here and there overflows beyond."""


class Fault(ValueError):
    """Something in a file that keeps it from an engine; the message says what, expected and got, without the path."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a model file that was found fit declares.

    Attributes:
        outputs: Name of each output → its shape, None where a dimension is open; a shape that is not declared is None.
            An IR's output has several names.
        files: Names of the files beside it that hold weights.
    """

    outputs: dict[str, tuple[int | None, ...] | None]
    files: tuple[str, ...] = ()
