"""Taking turns: the one way in which alternatives are timed against each other.

Measured one after the other, two alternatives meet two different moments: another process wakes, the clock drops. Here
each runs a short block, then the next one does, round after round, in an order that rotates. The first run of a block
is not counted: it pays for the caches and the threads that the one before it left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from edgedet_runtime.errors import ArgumentError

__all__ = ["BLOCK", "WARM_UP", "elapsed_ms", "take_turns"]

WARM_UP = 3
BLOCK = 5

K = TypeVar("K")
T = TypeVar("T")


def elapsed_ms(run: Callable[[], object]) -> float:
    """Return the wall-clock milliseconds of one call."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def take_turns(
    alternatives: Mapping[K, Callable[[int], T]],
    *,
    runs: int,
    block: int = BLOCK,
    warm_up: int = WARM_UP,
    on_round: Callable[[int, int], object] | None = None,
) -> dict[K, tuple[tuple[T, ...], ...]]:
    """Run alternatives in turn and collect what each counted run returns, such as `elapsed_ms`.

    Args:
        alternatives: Each is called with the number of the round, from 0, so that all can take the same input in it.
        runs: Counted runs of each, at least 1.
        block: Counted runs of a block; the last one may be shorter.
        warm_up: Calls of each before the first round.
        on_round: Called with rounds done and rounds in all.

    Returns:
        Per alternative the results of each round.

    Raises:
        ArgumentError: `runs` is below 1 or there is no alternative.
    """
    if runs < 1 or not alternatives:
        raise ArgumentError(
            "runs", f"expected 1 or more, for at least one alternative, got {runs} for {len(alternatives)}"
        )
    for run in alternatives.values():
        for _ in range(warm_up):
            run(0)
    order = list(alternatives)
    found: dict[K, list[tuple[T, ...]]] = {key: [] for key in order}
    rounds = -(-runs // block)
    for number in range(rounds):
        shift = number % len(order)
        for key in order[shift:] + order[:shift]:
            run = alternatives[key]
            run(number)
            found[key].append(tuple(run(number) for _ in range(min(block, runs - number * block))))
        if on_round is not None:
            on_round(number + 1, rounds)
    return {key: tuple(blocks) for key, blocks in found.items()}
