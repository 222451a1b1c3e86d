"""Statistics of one tensor over many pictures in fixed memory, and the quantization range chosen from them.

The histogram's bins are multiples of a power of two, aligned at zero. When a value falls outside, neighboring bins
merge and the width doubles, which loses nothing: the result is the same as if the final width had been known from the
start, and therefore does not depend on the order of the pictures.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Range", "RangeRule", "TensorStatistics", "choose_range"]

Floats = npt.NDArray[np.float64]
Range = tuple[float, float]
RangeRule = Literal["minmax", "percentile", "mse"]

_BINS = 4096
_SAMPLE = 1 << 16  # elements per array that enter the histogram; counting all costs as much as the network itself
_PERCENTILE = 99.999
_LEVELS = 255
_SHRINKS = np.geomspace(1.0, 0.02, 60)


class TensorStatistics:
    """Extremes, per-channel moments, and a histogram of evenly spaced elements of a tensor.

    Attributes:
        count: Elements seen.
        low: Smallest element.
        high: Largest element.
        channel_low: float64 (C,), smallest element per channel (axis 1).
        channel_high: float64 (C,), largest per channel.
        channel_power: float64 (C,), mean square per channel.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.count = 0
        self.low = math.inf
        self.high = -math.inf
        self.channel_low: Floats = np.zeros(0)
        self.channel_high: Floats = np.zeros(0)
        self._channel_sum: Floats = np.zeros(0)
        self._channel_count = 0
        self._exponent: int | None = None
        self._first = 0
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)

    def update(self, array: npt.NDArray[np.float32]) -> None:
        """Take in one more array of any shape; infinite and NaN elements are an error of the caller."""
        if not array.size:
            return
        flat = array.ravel()
        pictures, channels = (1, 1) if array.ndim < 3 else array.shape[:2]
        self._update_channels(array.reshape(pictures, channels, array.size // (pictures * channels)))
        self.count += array.size
        self.low, self.high = float(self.channel_low.min()), float(self.channel_high.max())
        self._widen()
        assert self._exponent is not None
        sample = flat[:: math.ceil(array.size / _SAMPLE) | 1]
        bins = np.multiply(sample, np.float32(math.ldexp(1.0, -self._exponent)))  # exact: a power of two
        np.floor(bins, out=bins)
        bins -= np.float32(self._first)
        self._counts += np.bincount(bins.astype(np.intp), minlength=_BINS)

    @property
    def channel_power(self) -> Floats:
        """Mean square per channel, float64 (C,)."""
        return np.asarray(self._channel_sum / self._channel_count, np.float64)  # of nothing, if nothing was seen

    def histogram(self) -> tuple[Floats, Floats]:
        """Return bin centers and counts of the bins that are not empty."""
        filled = np.flatnonzero(self._counts)
        width = math.ldexp(1.0, self._exponent or 0)
        centers = np.clip((filled + self._first + 0.5) * width, self.low, self.high)
        return centers, self._counts[filled].astype(np.float64)

    def _update_channels(self, planes: npt.NDArray[np.float32]) -> None:
        low = planes.min(axis=2).min(axis=0).astype(np.float64)
        high = planes.max(axis=2).max(axis=0).astype(np.float64)
        power = np.einsum("bcn,bcn->bc", planes, planes).sum(axis=0).astype(np.float64)
        if not len(self._channel_sum):
            self.channel_low, self.channel_high, self._channel_sum = low, high, power
        else:
            self.channel_low = np.minimum(self.channel_low, low)
            self.channel_high = np.maximum(self.channel_high, high)
            self._channel_sum = self._channel_sum + power
        self._channel_count += planes.shape[0] * planes.shape[2]

    def _widen(self) -> None:
        """Make the bins cover low..high, doubling their width where needed."""
        exponent = self._exponent
        if exponent is None:
            limits = np.finfo(np.float32)  # a bin narrower than a step between numbers resolves nothing
            largest = max(abs(self.low), abs(self.high), float(limits.tiny))
            exponent = max(math.frexp(largest)[1] - limits.nmant, limits.minexp)
        while math.floor(math.ldexp(self.high, -exponent)) - math.floor(math.ldexp(self.low, -exponent)) >= _BINS:
            exponent += 1
        first = math.floor(math.ldexp(self.low, -exponent))
        counts = np.zeros(_BINS, np.int64)
        if self._exponent is not None:
            filled = np.flatnonzero(self._counts)
            moved = (filled + self._first >> (exponent - self._exponent)) - first
            np.add.at(counts, moved, self._counts[filled])
        self._exponent, self._first, self._counts = exponent, first, counts


def choose_range(rule: RangeRule, extremes: Range, centers: Floats, counts: Floats) -> Range:
    """Choose the range that 8 bits will span; it always contains zero.

    Args:
        rule: ``minmax``; ``percentile``: what 99.999 % of the elements span; ``mse``: the range with the least mean
            squared error, found by shrinking both ends.
        extremes: Smallest and largest element.
        centers: Bin centers of a histogram.
        counts: Elements per bin.

    Returns:
        Low ≤ 0 and high ≥ 0, in the tensor's unit.
    """
    low, high = min(extremes[0], 0.0), max(extremes[1], 0.0)
    if rule == "minmax":
        return low, high
    if rule == "percentile":
        share = np.cumsum(counts) / counts.sum()
        tail = (1 - _PERCENTILE / 100) / 2
        first, last = centers[np.searchsorted(share, (tail, 1 - tail))]
        return min(float(first), 0.0), max(float(last), 0.0)
    return _least_squares(low, high, centers, counts)


def _least_squares(low: float, high: float, centers: Floats, counts: Floats) -> Range:
    """Shrink one end, then the other, twice; ties keep the wider range."""

    def error(a: float, b: float) -> float:
        step = (b - a) / _LEVELS
        if step <= 0:
            return math.inf
        zero = round(-a / step)
        grid = (np.clip(np.round(centers / step) + zero, 0, _LEVELS) - zero) * step
        return float((counts * (grid - centers) ** 2).sum())

    a, b = low, high
    for _ in range(2):
        b = _best([high * s for s in _SHRINKS], [error(a, high * s) for s in _SHRINKS])
        a = _best([low * s for s in _SHRINKS], [error(low * s, b) for s in _SHRINKS])
    return a, b


def _best(values: list[float], errors: list[float]) -> float:
    return float(values[int(np.argmin(errors))])
