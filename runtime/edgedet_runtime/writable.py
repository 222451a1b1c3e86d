"""Can something be written at a place? Asked before slow work, by trying, since rights alone do not say."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgedet_runtime.errors import ArgumentError

__all__ = ["require_writable"]


def require_writable(target: Path, *, argument: str) -> None:
    """Check that a file or folder could be made at a place, leaving nothing behind.

    The nearest folder above it that exists must take a new folder; what already is at the place itself, and whether it
    may be replaced, is for the caller to judge.

    Args:
        target: Where something shall be written.
        argument: The argument that says so, for the message.

    Raises:
        ArgumentError: Something on the way is no folder, or cannot be written.
    """
    try:
        above = next(folder for folder in target.absolute().parents if folder.exists())
        with tempfile.TemporaryDirectory(prefix=".edgedet-", dir=above):
            return
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or str(e)
        raise ArgumentError(
            argument, f"expected a place that can be written, {target} cannot: {reason}; choose another"
        ) from None
