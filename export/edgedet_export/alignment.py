"""Sets of queries in one order, so that two stages can be compared position by position.

A head of queries lists the best cells by score. Rounding may exchange two cells of nearly equal score, and then the
same boxes come in another order. Nothing else changes, since the decoder treats its queries as a set. So before any
comparison the rows of one stage are put in the order of the other's: each row goes with the nearest that is left,
nearest pairs first. The comparison itself, and its tolerances, are those of any other head: a row without a counterpart
shows as a large difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime.spec import ModelSpec

__all__ = ["align", "matching_order"]

Array = npt.NDArray[Any]
_BOX_WEIGHT = 100.0
"""Of a box coordinate as a fraction of the input, against a class logit."""


def align(spec: ModelSpec, before: Sequence[Array], after: Sequence[Array]) -> Sequence[Array]:
    """Return raw outputs in the order of another stage's.

    Args:
        spec: Contract of both.
        before: Raw outputs of one picture, the order to follow.
        after: Raw outputs of the same picture.

    Returns:
        `after`, its rows in the order of `before`; as it is where the outputs are no sets, or of other shapes.
    """
    if spec.decode.kind != "queries" or [a.shape for a in before] != [a.shape for a in after]:
        return after
    height, width = spec.input.size_hw
    scale = _BOX_WEIGHT * np.array(spec.decode.unit_xy * 2) / np.array((width, height) * 2)
    order = matching_order(_rows(before, scale), _rows(after, scale))
    return [output[:, order] for output in after]


def _rows(raw: Sequence[Array], scale: Array) -> Array:
    boxes, logits = (np.asarray(output[0], np.float64) for output in raw)
    return np.concatenate((boxes * scale, logits), axis=1)


def matching_order(before: Array, after: Array) -> npt.NDArray[np.int64]:
    """Return which row of `after` belongs to each row of `before`: all pairs are formed, the nearest first.

    Args:
        before: (M, F).
        after: (M, F).
    """
    apart = np.stack([np.abs(after - row).max(axis=1, initial=0.0) for row in before]) if len(before) else before
    apart = np.where(np.isnan(apart), np.inf, apart)
    order = np.full(len(before), -1, np.int64)
    free = np.ones(len(after), np.bool_)
    left = len(before)
    for pair in np.argsort(apart, axis=None, kind="stable"):
        row, column = divmod(int(pair), len(after))
        if order[row] < 0 and free[column]:
            order[row], free[column], left = column, False, left - 1
            if not left:
                break
    return order
