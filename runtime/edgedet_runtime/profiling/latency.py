"""Interleaved latency of detectors: they take turns, so that what disturbs one disturbs all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgedet_runtime.profiling.turns import elapsed_ms, take_turns

__all__ = ["Samples", "StepTimes", "TimedDetector", "measure"]


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
        ArgumentError: `runs` is below 1 or there is no detector.
    """
    turns = take_turns(
        {key: partial(_timed, detector, image_bgr) for key, detector in detectors.items()},
        runs=runs,
        on_round=on_round,
    )
    columns = {key: zip(*(run for block in blocks for run in block), strict=True) for key, blocks in turns.items()}
    return {key: Samples(*map(tuple, of)) for key, of in columns.items()}


def _timed(detector: TimedDetector, image_bgr: npt.NDArray[np.uint8], _round: int) -> tuple[float, float, float, float]:
    total_ms = elapsed_ms(lambda: detector(image_bgr))
    times = detector.last_times
    assert times is not None, "the detector has just been called"
    return times.pre_ms, times.infer_ms, times.post_ms, total_ms
