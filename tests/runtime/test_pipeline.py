"""Overlap: order, how far it reads ahead, what it holds, and where errors come."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from edgedet_runtime.pipeline import overlapped


class Log:
    """What was called, with which lane."""

    def __init__(self, *, bad: dict[str, int] | None = None) -> None:
        self.events: list[str] = []
        self._bad = bad or {}

    def _note(self, step: str, number: int, lane: int | None = None) -> None:
        self.events.append(f"{step} {number}" + ("" if lane is None else f" {'ab'[lane]}"))
        if self._bad.get(step) == number:
            raise ValueError(f"{step} {number}")

    def frames(self, count: int) -> Iterator[int]:
        for number in range(count):
            self._note("read", number)
            yield number

    def prepare(self, frame: int, lane: int) -> tuple[int, int]:
        self._note("prepare", frame, lane)
        return frame, lane

    def run(self, prepared: tuple[int, int], lane: int) -> int:
        assert prepared[1] == lane
        assert threading.current_thread().name.startswith("edgedet-engine")
        self._note("run", prepared[0], lane)
        return prepared[0] * 10

    def finish(self, frame: int, prepared: tuple[int, int], result: int) -> tuple[int, int]:
        assert prepared[0] == frame
        self._note("finish", frame)
        return frame, result

    def overlapped(self, count: int) -> Iterator[tuple[int, int]]:
        return overlapped(self.frames(count), self.prepare, self.run, self.finish)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_results_come_in_order(count: int) -> None:
    assert list(Log().overlapped(count)) == [(n, 10 * n) for n in range(count)]


def test_lanes_alternate_and_the_next_frame_is_ready_before_the_one_before_is_finished() -> None:
    log = Log()
    assert len(list(log.overlapped(3))) == 3
    mine = [event for event in log.events if not event.startswith("run")]
    expected = ["read 0", "prepare 0 a", "read 1", "prepare 1 b", "finish 0", "read 2", "prepare 2 a", "finish 1"]
    assert mine == [*expected, "finish 2"]
    assert [event for event in log.events if event.startswith("run")] == ["run 0 a", "run 1 b", "run 2 a"]
    # a lane is free again only when its frame is finished
    assert log.events.index("run 2 a") > log.events.index("finish 0")


def test_the_next_frame_is_in_the_engine_while_one_is_finished() -> None:
    entered, leave = threading.Event(), threading.Event()

    def run(frame: int, _lane: int) -> int:
        if frame == 1:
            entered.set()
            assert leave.wait(20)
        return frame

    def finish(frame: int, _prepared: int, _result: int) -> int:
        if frame == 0:
            assert entered.wait(20)
            leave.set()
        return frame

    assert list(overlapped(range(3), lambda frame, _lane: frame, run, finish)) == [0, 1, 2]


def test_it_reads_one_frame_ahead_of_the_results_taken() -> None:
    log = Log()
    results = log.overlapped(100)
    assert next(results) == (0, 0)
    assert [event for event in log.events if event.startswith("read")] == ["read 0", "read 1"]


@pytest.mark.parametrize("step", ["read", "prepare", "run", "finish"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_error_comes_where_the_result_would(step: str, number: int) -> None:
    log = Log(bad={step: number})
    results = log.overlapped(6)
    for n in range(number):
        assert next(results) == (n, 10 * n)
    with pytest.raises(ValueError, match=f"^{step} {number}$"):
        next(results)
    assert next(results, None) is None
    late = "finish" if step == "finish" else "run" if step == "run" else "read"
    last = max(int(event.split()[1]) for event in log.events if event.startswith("read"))
    assert last == min(5, number + (late != "read"))


def test_the_earlier_of_two_errors_comes() -> None:
    log = Log(bad={"run": 2, "prepare": 3})
    results = log.overlapped(6)
    assert [next(results), next(results)] == [(0, 0), (1, 10)]
    with pytest.raises(ValueError, match="run 2"):
        next(results)


def test_closing_early_waits_for_the_engine() -> None:
    started, out = threading.Event(), threading.Event()

    def run(frame: int, _lane: int) -> int:
        if frame == 1:
            started.set()
            out.wait(0.05)
            out.set()
        return frame

    results = overlapped(range(9), lambda frame, _lane: frame, run, lambda frame, _p, _r: frame)
    assert next(results) == 0
    assert started.wait(20)
    results.close()  # type: ignore[attr-defined]
    assert out.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgedet-engine")]


def test_frames_are_let_go_of() -> None:
    class Frame:
        pass

    seen: list[weakref.ref[Frame]] = []

    def frames() -> Iterator[Frame]:
        for _ in range(50):
            frame = Frame()
            seen.append(weakref.ref(frame))
            yield frame
            del frame
            gc.collect(0)

    most = 0
    for _ in overlapped(frames(), lambda frame, _lane: frame, lambda frame, _lane: None, lambda *_: None):
        most = max(most, sum(ref() is not None for ref in seen))
    assert most <= 4
