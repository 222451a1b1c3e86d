"""The check that every engine makes of its input, before native code sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import InputSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["check_tensor"]


def check_tensor(tensor: npt.NDArray[Any], spec: InputSpec) -> None:
    """Check type, shape and memory order of an input tensor.

    Raises:
        EngineError: It is not what the spec says.
    """
    h, w = spec.size_hw
    shape = (1, 3, h, w) if spec.layout == "NCHW" else (1, h, w, 3)
    if tensor.shape != shape or tensor.dtype != spec.dtype or not tensor.flags.c_contiguous:
        raise EngineError(
            f"input {spec.name}: expected C-contiguous {spec.dtype} {shape}, got {tensor.dtype} {tensor.shape}"
        )
