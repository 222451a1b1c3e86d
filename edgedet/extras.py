"""Optional packages: ask for one by name, get one clear line where it is missing."""

from __future__ import annotations

import importlib.util

from edgedet_runtime.errors import MissingDependencyError

__all__ = ["installed", "require"]


def installed(package: str) -> bool:
    """Return whether a top-level package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def require(*packages: str, extra: str, purpose: str) -> None:
    """Check that packages are installed.

    Raises:
        MissingDependencyError: One is not; the message names the pip command.
    """
    for package in packages:
        if not installed(package):
            raise MissingDependencyError(package, extra, purpose)
