"""The closed sets that a user chooses from, and the one place where text becomes a member of one.

Everything behind the command line and the readers of JSON takes `EngineName` and `Precision`; text is parsed once,
where it comes in.
"""

from __future__ import annotations

import os
from typing import Literal, TypeGuard

from edgedet_runtime.errors import ArgumentError

__all__ = [
    "CACHE_VARIABLE",
    "ENGINE_NAMES",
    "NO_CACHE",
    "PRECISIONS",
    "TRIAL_VARIABLE",
    "EngineName",
    "Precision",
    "Trial",
    "choose_trial",
    "is_engine",
    "is_precision",
    "parse_engine",
    "parse_precision",
]

EngineName = Literal["onnxruntime", "openvino", "opencv"]
"""An inference engine, a key of `engines.ENGINES`."""

Precision = Literal["fp32", "int8"]
"""The numbers that a model file computes in."""

Trial = Literal["auto", "always", "never"]
"""Whether a model file is loaded in a child first: where no earlier trial is remembered, in any case, or not at all."""

TRIAL_VARIABLE = "EDGEDET_TRIAL"
CACHE_VARIABLE, NO_CACHE = "EDGEDET_CACHE", "none"
"""Names the folder of compiled models, see `engines.compiled_cache`; the value that keeps none."""

ENGINE_NAMES: tuple[EngineName, ...] = ("onnxruntime", "openvino", "opencv")
PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
"""In the order of preference."""
_TRIALS: tuple[Trial, ...] = ("auto", "always", "never")


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


def _is_trial(value: object) -> TypeGuard[Trial]:
    return value in _TRIALS


def choose_trial(wish: object = None) -> Trial:
    """Return a wish for trials; where there is none what ``EDGEDET_TRIAL`` says, else ``auto``.

    Raises:
        ArgumentError: It is none of the three.
    """
    value = os.environ.get(TRIAL_VARIABLE, "").strip() or "auto" if wish is None else wish
    if _is_trial(value):
        return value
    name = TRIAL_VARIABLE if wish is None else "trial"
    raise ArgumentError(name, f"expected one of {', '.join(_TRIALS)}, got {value!r:.80}")
