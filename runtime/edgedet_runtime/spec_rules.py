"""The one way in which the parts of a spec refuse a value."""

from __future__ import annotations

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.short import short

__all__ = ["require"]


def require(condition: bool, what: str, expected: str, got: object) -> None:
    """Raise a ModelFileError that says what was expected, and what was got, unless the condition holds."""
    if not condition:
        raise ModelFileError(f"model spec: {what}: expected {expected}, got {short(got)}")
