"""Who belongs to whom: the one greedy matching behind doctor, checks, agreement and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["pair_greedily"]


def pair_greedily(nearness: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Return the pairs that form when each row, in order, takes the nearest column that is left.

    Args:
        nearness: (rows, columns); above 0 where the two may belong together, more where they are nearer. The first of
            equally near columns is taken.

    Returns:
        Row and column of each pair, rows ascending; no row and no column twice.
    """
    free = np.array(nearness, copy=True)
    pairs: list[tuple[int, int]] = []
    for row in np.flatnonzero((free > 0).any(axis=1)) if free.size else ():
        column = int(np.argmax(free[row]))
        if free[row, column] > 0:
            free[:, column] = 0
            pairs.append((int(row), column))
    return pairs
