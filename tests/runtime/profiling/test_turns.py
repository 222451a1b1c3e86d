"""Alternatives take turns in blocks, in an order that rotates; the first run of a block is not counted."""

from __future__ import annotations

import time
from functools import partial

import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling.turns import elapsed_ms, take_turns


def test_order_blocks_and_what_is_counted() -> None:
    log: list[str] = []

    def run(name: str, turn: int) -> str:
        log.append(f"{name}{turn}")
        return f"{name}{turn}.{len(log)}"

    seen: list[tuple[int, int]] = []
    found = take_turns(
        {name: partial(run, name) for name in "abc"},
        runs=5,
        block=2,
        warm_up=1,
        on_round=lambda done, of: seen.append((done, of)),
    )
    rounds = ["a0 b0 c0", "a0 a0 a0 b0 b0 b0 c0 c0 c0", "b1 b1 b1 c1 c1 c1 a1 a1 a1", "c2 c2 a2 a2 b2 b2"]
    assert log == " ".join(rounds).split()
    assert found["a"] == (("a0.5", "a0.6"), ("a1.20", "a1.21"), ("a2.25",))
    assert [len(block) for block in found["c"]] == [2, 2, 1]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_elapsed_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 10.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    assert elapsed_ms(int) == 250.0


def test_elapsed_is_wall_clock() -> None:
    assert elapsed_ms(lambda: time.sleep(0.004)) >= 4.0


@pytest.mark.parametrize(("names", "runs"), [("", 1), ("a", 0), ("a", -1)])
def test_nothing_to_measure_is_refused(names: str, runs: int) -> None:
    with pytest.raises(InputError, match="runs: expected 1 or more"):
        take_turns(dict.fromkeys(names, int), runs=runs)
