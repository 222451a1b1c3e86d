"""Interleaved latency: alternatives take turns, so that what disturbs one disturbs all alike.

Measured one after the other, two plans meet two different moments: another process wakes, the clock drops.
Here each plan runs a short block, then the next one does, round after round, in an order that rotates. The
first run of a block is not counted: it pays for the caches and the threads that the plan before it left
behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgedet_runtime.errors import InputError

__all__ = ["Samples", "StepTimes", "TimedDetector", "measure"]

WARM_UP = 3
BLOCK = 5


class StepTimes(Protocol):
    """What one call spent on each step, in milliseconds."""

    @property
    def pre_ms(self) -> float:
        """From the picture to the input tensor."""
        ...

    @property
    def infer_ms(self) -> float:
        """The engine."""
        ...

    @property
    def post_ms(self) -> float:
        """From raw outputs to detections."""
        ...


class TimedDetector(Protocol):
    """What is measured: a detector that says what its last call spent."""

    @property
    def last_times(self) -> StepTimes | None:
        """Times of the last call; None before the first."""
        ...

    def __call__(self, image_bgr: npt.NDArray[np.uint8], /) -> object:
        """Detect in one picture."""
        ...


K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Samples:
    """Milliseconds of each counted run of one plan, in the order of the runs.

    Attributes:
        pre_ms: From the picture to the input tensor.
        infer_ms: The engine.
        post_ms: From raw outputs to detections.
        end_to_end_ms: Wall clock around the whole call.
    """

    pre_ms: tuple[float, ...]
    infer_ms: tuple[float, ...]
    post_ms: tuple[float, ...]
    end_to_end_ms: tuple[float, ...]


def measure(
    detectors: Mapping[K, TimedDetector],
    image_bgr: npt.NDArray[np.uint8],
    *,
    runs: int,
    on_round: Callable[[int, int], object] | None = None,
) -> dict[K, Samples]:
    """Time each detector on one picture, interleaved.

    Args:
        detectors: The alternatives.
        image_bgr: uint8 (H, W, 3) picture.
        runs: Counted runs of each, at least 1.
        on_round: Called with rounds done and rounds in all.

    Raises:
        InputError: `runs` is below 1 or there is no detector.
    """
    if runs < 1 or not detectors:
        raise InputError(f"runs: expected 1 or more, for at least one plan, got {runs} for {len(detectors)} plans")
    for detector in detectors.values():
        for _ in range(WARM_UP):
            detector(image_bgr)
    order = list(detectors)
    rows: dict[K, list[tuple[float, float, float, float]]] = {key: [] for key in order}
    rounds = -(-runs // BLOCK)
    for number in range(rounds):
        shift = number % len(order)
        for key in order[shift:] + order[:shift]:
            detector = detectors[key]
            detector(image_bgr)
            for _ in range(min(BLOCK, runs - len(rows[key]))):
                rows[key].append(_timed(detector, image_bgr))
        if on_round is not None:
            on_round(number + 1, rounds)
    return {key: Samples(*(tuple(column) for column in zip(*of, strict=True))) for key, of in rows.items()}


def _timed(detector: TimedDetector, image_bgr: npt.NDArray[np.uint8]) -> tuple[float, float, float, float]:
    start = time.perf_counter()
    detector(image_bgr)
    total_ms = (time.perf_counter() - start) * 1e3
    times = detector.last_times
    assert times is not None, "the detector has just been called"
    return times.pre_ms, times.infer_ms, times.post_ms, total_ms
