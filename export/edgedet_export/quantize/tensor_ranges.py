"""Ranges of tensors under one rule, computed on demand from the calibration's statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgedet_export.quantize.ranges import Range, RangeRule, TensorStatistics, choose_range
from edgedet_runtime.errors import ModelFileError

__all__ = ["TensorRanges"]


class TensorRanges:
    """Chooses and remembers ranges."""

    def __init__(self, statistics: Mapping[str, TensorStatistics], rule: RangeRule) -> None:
        """Take the statistics of a calibration and the rule to apply to them."""
        self._statistics = statistics
        self._rule = rule
        self._known: dict[tuple[tuple[str, ...], float], Range] = {}

    def choose(self, tensor: str, *, floor: float = -math.inf) -> Range:
        """Return the range of one tensor; elements below `floor` count as `floor`."""
        key = ((tensor,), floor)
        if key not in self._known:
            found = self._find(tensor)
            centers, counts = found.histogram()
            extremes = (max(found.low, floor), max(found.high, floor))
            self._known[key] = choose_range(self._rule, extremes, np.maximum(centers, floor), counts)
        return self._known[key]

    def choose_joint(self, tensors: Sequence[str]) -> Range:
        """Return one range for several tensors together, each element counted once."""
        key = (tuple(tensors), -math.inf)
        if key not in self._known:
            found = [self._find(t) for t in tensors]
            parts = [f.histogram() for f in found]
            centers = np.concatenate([c for c, _ in parts])
            # Large tensors are sampled, so their counts stand for more elements.
            counts = np.concatenate([n * (f.count / n.sum()) for f, (_, n) in zip(found, parts, strict=True)])
            order = np.argsort(centers, kind="stable")
            extremes = (min(f.low for f in found), max(f.high for f in found))
            self._known[key] = choose_range(self._rule, extremes, centers[order], counts[order])
        return self._known[key]

    def _find(self, tensor: str) -> TensorStatistics:
        found = self._statistics.get(tensor)
        if found is None or not found.count:
            raise ModelFileError(f"INT8: expected statistics of the tensor {tensor}, got none")
        return found
