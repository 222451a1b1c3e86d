"""Latencies of models in memory, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgedet_export.quantize.runner import Runner, Tensor

__all__ = ["Latencies", "measure_latencies"]

_BLOCK = 3


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies measured side by side.

    Attributes:
        ms: Runner → median latency in milliseconds.
        speedup: Runner → how many times faster than the first one: the median over rounds of the ratio within a
            round, so that a disturbance that lasts for a round does not count.
        rounds: Runner → median latency of each round, in milliseconds.
    """

    ms: Mapping[str, float]
    speedup: Mapping[str, float]
    rounds: Mapping[str, tuple[float, ...]]

    def clearly_faster(self, one: str, other: str, *, by: float) -> bool:
        """Return whether a runner is faster by a share of the other's time, and faster at all in most rounds.

        Args:
            one: A runner.
            other: Another.
            by: 0.05: by 5 % in the median round.
        """
        ratios = sorted(b / a for a, b in zip(self.rounds[one], self.rounds[other], strict=True))
        return median(ratios) > 1 + by and ratios[len(ratios) // 4] > 1


def measure_latencies(runners: Mapping[str, Runner], tensors: Sequence[Tensor], runs: int) -> Latencies:
    """Time runners that take turns in blocks; the first run of a block warms caches and threads and is not counted.

    Args:
        runners: Name → runner; the first is the reference.
        tensors: Inputs, used in turn.
        runs: Counted runs of each.
    """
    rounds: dict[str, list[float]] = {name: [] for name in runners}
    every: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run(tensors[0])
    for turn in range(-(-runs // _BLOCK)):
        tensor = tensors[turn % len(tensors)]
        for name, run in runners.items():
            run(tensor)
            times = []
            for _ in range(_BLOCK):
                start = time.perf_counter()
                run(tensor)
                times.append((time.perf_counter() - start) * 1e3)
            rounds[name].append(median(times))
            every[name] += times
    first = next(iter(rounds.values()))
    return Latencies(
        ms={name: median(times) for name, times in every.items()},
        speedup={name: median(a / b for a, b in zip(first, times, strict=True)) for name, times in rounds.items()},
        rounds={name: tuple(times) for name, times in rounds.items()},
    )
