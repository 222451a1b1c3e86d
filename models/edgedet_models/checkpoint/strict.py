"""Strict loading of a state dict: every tensor accounted for, every shape as built, one line when not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.printable import shown

__all__ = ["IGNORED_SUFFIX", "load_strict"]

IGNORED_SUFFIX = "num_batches_tracked"
"""BatchNorm's step counter: training state, absent from some files, without any effect on inference."""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, what: str) -> None:
    """Copy `tensors` into `module` (converted to its dtypes), insisting on the same names and shapes.

    Args:
        module: What was built for the file.
        tensors: Parameters and buffers by name; ``num_batches_tracked`` may be there or not.
        path: The checkpoint, for the message.
        what: What was built, such as ``yolox-nano``, for the message.

    Raises:
        CheckpointError: A tensor is missing, left over, or of another shape; nothing has been copied then.
    """
    expected = {k: v for k, v in module.state_dict().items() if not k.endswith(IGNORED_SUFFIX)}
    found = {k: v for k, v in tensors.items() if not k.endswith(IGNORED_SUFFIX)}
    missing = [k for k in expected if k not in found]
    unexpected = [k for k in found if k not in expected]
    if missing or unexpected:
        parts = [
            f"{len(names)} tensors {word} (first {shown(names[0])})"
            for names, word in ((missing, "missing"), (unexpected, "not expected"))
            if names
        ]
        raise CheckpointError(
            f"{path}: does not fit {what}: {', '.join(parts)}; the file is damaged or of another kind"
        )
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {shown(name)}: expected shape {_shape(expected[name])} for {what}, got {_shape(tensor)};"
                " the file is damaged or of another kind"
            )
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(f"{path}: {shown(name)}: expected {expected[name].dtype}, got {tensor.dtype}")
    module.load_state_dict(found, strict=False)
