"""Arrays for in-between results that are made once and kept from frame to frame.

Fresh megabytes cost a frame more than what is computed in them: the system hands them out page by page, zeroed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Scratch"]


class Scratch:
    """Kept arrays by name; belongs to one thread at a time."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array for `name`, C-contiguous: the one of the last call if it has this shape and type.

        What it holds is undefined. A new shape lets go of the array before.
        """
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(shape, dtype)
        return kept
