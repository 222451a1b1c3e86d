"""What a checked model file declares of itself, and the faults that a check finds."""

from __future__ import annotations

from dataclasses import dataclass, field

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
        digests: SHA-256, hexadecimal, of the file itself and of those beside it, by name, where they were compared with
            the manifest of a bundle; else empty.
    """

    outputs: dict[str, tuple[int | None, ...] | None]
    files: tuple[str, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
