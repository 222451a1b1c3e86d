"""The closed sets that a user chooses from, and the one place where text becomes a member of one.

Everything behind the command line and the readers of JSON takes `EngineName` and `Precision`; text is parsed once,
where it comes in.
"""

from __future__ import annotations

from typing import Literal, TypeGuard

from edgedet_runtime.errors import ArgumentError

__all__ = [
    "ENGINE_NAMES",
    "PRECISIONS",
    "EngineName",
    "Precision",
    "is_engine",
    "is_precision",
    "parse_engine",
    "parse_precision",
]

EngineName = Literal["onnxruntime", "openvino", "opencv"]
"""An inference engine, a key of `engines.ENGINES`."""

Precision = Literal["fp32", "int8"]
"""The numbers that a model file computes in."""

ENGINE_NAMES: tuple[EngineName, ...] = ("onnxruntime", "openvino", "opencv")
PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
"""In the order of preference."""


def is_engine(value: object) -> TypeGuard[EngineName]:
    """Return whether a value names an engine."""
    return value in ENGINE_NAMES


def is_precision(value: object) -> TypeGuard[Precision]:
    """Return whether a value names a precision."""
    return value in PRECISIONS


def parse_engine(text: object, *, argument: str = "engine") -> EngineName:
    """Return the engine that a text names.

    Args:
        text: What a user or a file said.
        argument: The argument, option or place in a file that said it, for the message.

    Raises:
        ArgumentError: No such engine.
    """
    if is_engine(text):
        return text
    raise ArgumentError(argument, f"expected one of {', '.join(ENGINE_NAMES)}, got {text!r:.80}")


def parse_precision(text: object, *, argument: str = "precision") -> Precision:
    """Return the precision that a text names.

    Args:
        text: What a user or a file said.
        argument: The argument, option or place in a file that said it, for the message.

    Raises:
        ArgumentError: No such precision.
    """
    if is_precision(text):
        return text
    raise ArgumentError(argument, f"expected fp32 or int8, got {text!r:.80}")
