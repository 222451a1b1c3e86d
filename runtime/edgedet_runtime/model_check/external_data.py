"""Weights beside a model file: which files an ONNX model may name.

An engine opens whatever path a model names: OpenCV reads ``../../etc/passwd`` and follows symlinks, and at ONNX
Runtime's marker ``*/_ORT_MEM_ADDR_/*`` the offset is an address in memory, at which OpenVINO reads.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from edgedet_runtime.model_check.outline import Fault
from edgedet_runtime.printable import shown

__all__ = ["external_file"]

_MEMORY = "_ORT_MEM_ADDR_"
_DRIVE = re.compile(r"^[A-Za-z]:")


def external_file(folder: Path, location: str) -> Path:
    """Return the file of weights that a model in a folder names.

    Args:
        folder: Of the model.
        location: As the model has it.

    Raises:
        Fault: It is an address in memory, leads out of the folder, also through a symlink, or is no file.
    """
    if _MEMORY in location:
        raise Fault(f"weights: expected a file beside the model, got an address in memory ({shown(location)})")
    parts = PurePosixPath(location).parts
    leaves = location.startswith("/") or ".." in parts or not parts or bool(_DRIVE.match(location))
    if leaves or "\\" in location or "\0" in location:
        raise Fault(f"weights: expected a file within the model's folder, got {shown(location) or 'no name'!r}")
    try:
        base, path = folder.resolve(), (folder / location).resolve()
        regular = path.is_file()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: symlinks in a circle
        raise Fault(f"weights: expected a file beside the model, {shown(location)} cannot be looked up") from None
    if not path.is_relative_to(base):
        raise Fault(f"weights: expected a file within the model's folder, {shown(location)} is a symlink out of it")
    if not regular:
        raise Fault(f"weights: expected the file {shown(location)} beside the model, there is none")
    return path
