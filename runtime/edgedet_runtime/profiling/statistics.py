"""Percentiles of a sample, and whether two samples really differ.

Latencies are skewed and have outliers: nothing is thrown away, the center is the median and the tail is shown
as it is. A change is judged by the ratio of medians with a percentile bootstrap interval (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). What disturbs one run disturbs its neighbors, so runs
are drawn in the blocks in which they were made (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
chapter 3.8); drawn one by one, the interval would be too narrow, and noise would pass for a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgedet_runtime.errors import InputError

__all__ = ["Interval", "Summary", "ratio_of_medians", "slope", "summarize"]

_UNSTEADY = 0.25
_FEWEST_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Summary:
    """What a sample of one quantity looks like, in the quantity's own unit.

    Attributes:
        count: Number of measurements.
        median: 50th percentile.
        p90: 90th percentile.
        p99: 99th percentile; with fewer than 100 measurements it leans on the largest.
        lowest: Smallest measurement.
        highest: Largest measurement.
        spread: Distance from the 25th to the 75th percentile, divided by the median.
    """

    count: int
    median: float
    p90: float
    p99: float
    lowest: float
    highest: float
    spread: float

    @property
    def unsteady(self) -> bool:
        """True where the middle half of the measurements spreads over more than a quarter of the median."""
        return self.spread > _UNSTEADY


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Return whether the interval lies wholly on one side of a value."""
        return self.low > value or self.high < value


def summarize(sample: Sequence[float] | npt.NDArray[np.float64]) -> Summary:
    """Describe a sample.

    Raises:
        InputError: The sample is empty or holds something that is not a finite number.
    """
    values = np.asarray(sample, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError(f"sample: expected one or more finite numbers, got {values.tolist()[:5]}")
    p25, p50, p75, p90, p99 = (float(v) for v in np.percentile(values, [25, 50, 75, 90, 99]))
    spread = (p75 - p25) / p50 if p50 else 0.0
    return Summary(int(values.size), p50, p90, p99, float(values.min()), float(values.max()), spread)


def ratio_of_medians(
    new: Sequence[float], old: Sequence[float], *, block: int = 1, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Estimate median(new) / median(old) with its 95 % bootstrap interval; below 1 means that `new` is
    smaller.

    Args:
        new: Measurements in the order in which they were made.
        old: The same of what they are compared with.
        block: How many were made in a row and are drawn together, fewer where that would leave less than four
            blocks; 1 where measurements do not depend on each other.
        resamples: How often to draw.
        seed: Of the draws.

    Raises:
        InputError: A sample is empty, or not all of its values are positive.
    """
    a, b = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    for name, values in (("new", a), ("old", b)):
        if values.size == 0 or not np.isfinite(values).all() or (values <= 0).any():
            raise InputError(f"{name} sample: expected one or more positive numbers, got {values.tolist()[:5]}")
    random = np.random.default_rng(seed)
    medians_a, medians_b = (_resampled_medians(values, block, resamples, random) for values in (a, b))
    low, high = np.percentile(medians_a / medians_b, [2.5, 97.5])
    return Interval(float(np.median(a) / np.median(b)), float(low), float(high))


def _resampled_medians(
    values: npt.NDArray[np.float64], block: int, resamples: int, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the medians of samples as long as `values`, drawn from it block by block; a short last block goes on at
    the start.
    """
    block = min(block, max(1, values.size // _FEWEST_BLOCKS))
    blocks = -(-values.size // block)
    starts = random.integers(0, blocks, (resamples, blocks)) * block
    picked = (starts[:, :, None] + np.arange(block)) % values.size
    return np.asarray(np.median(values[picked.reshape(resamples, -1)[:, : values.size]], axis=1))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of y over x; 0 with fewer than two points."""
    if len(x) < 2:
        return 0.0
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    centered = xs - xs.mean()
    denominator = float(centered @ centered)
    return float(centered @ (ys - ys.mean())) / denominator if denominator else 0.0
