"""Latencies of models in memory, measured side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from edgedet_export.quantize.runner import Runner, Tensor
from edgedet_runtime.profiling.turns import elapsed_ms, take_turns

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
    """Time runners that take turns in blocks, see `take_turns`.

    Args:
        runners: Name → runner; the first is the reference.
        tensors: Inputs; all runners take the same one in a round.
        runs: Counted runs of each.
    """

    def timed(run: Runner, turn: int) -> float:
        return elapsed_ms(lambda: run(tensors[turn % len(tensors)]))

    turns = take_turns({name: partial(timed, run) for name, run in runners.items()}, runs=runs, block=_BLOCK, warm_up=1)
    rounds = {name: tuple(median(block) for block in blocks) for name, blocks in turns.items()}
    first = next(iter(rounds.values()))
    return Latencies(
        ms={name: median(ms for block in blocks for ms in block) for name, blocks in turns.items()},
        speedup={name: median(a / b for a, b in zip(first, times, strict=True)) for name, times in rounds.items()},
        rounds=rounds,
    )
