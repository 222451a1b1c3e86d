"""How well what a network costs on paper tells how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet_runtime.bundle.plan import Plan

__all__ = ["COSTS", "Correlation", "correlate"]

COSTS = {"gflops": "GFLOPs", "memory_access_bytes": "memory access", "params": "parameters"}
"""Fields of a `Contender` that are known without running it, and what to call them."""
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Correlation:
    """A cost against the median latency, over the models of one plan.

    Attributes:
        plan: The plan.
        cost: One of `COSTS`.
        models: How many models.
        pearson: Pearson's coefficient, -1..1: how near the points are to a line.
        spearman: Spearman's, -1..1: Pearson's of the ranks, ties sharing their mean rank; how well the cost tells the
            order.
    """

    plan: Plan
    cost: str
    models: int
    pearson: float
    spearman: float


def correlate(plan: Plan, cost: str, points: Sequence[tuple[float, float]]) -> Correlation | None:
    """Correlate a cost with latency.

    Args:
        plan: Of the models.
        cost: One of `COSTS`.
        points: (cost, latency in ms), one per model.

    Returns:
        None with fewer than three models, or where one of the two is the same for all.
    """
    if len(points) < _FEWEST:
        return None
    costs, ms = np.array(points, np.float64).T
    if np.ptp(costs) == 0 or np.ptp(ms) == 0:
        return None
    return Correlation(plan, cost, len(points), _pearson(costs, ms), _pearson(_ranks(costs), _ranks(ms)))


def _pearson(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rank of each value from 0, equal values sharing the mean of their ranks."""
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((first + last - 1) / 2, np.float64)
