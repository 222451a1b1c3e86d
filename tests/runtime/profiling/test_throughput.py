"""Several requests in flight, with detectors that only sleep."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.choices import EngineName, Precision
from edgedet_runtime.errors import EngineError, InputError
from edgedet_runtime.profiling.throughput import ROUNDS, measure_throughput

IMAGE = np.zeros((4, 4, 3), np.uint8)


@dataclass
class House:
    """Hands out detectors and notes who is inside."""

    sleep_s: dict[str, float]
    log: list[str] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    inside: set[int] = field(default_factory=set)
    most_inside: int = 0

    def load(self, engine: EngineName, precision: Precision) -> Sleeper:
        self.log.append(f"{engine} {precision}")
        return Sleeper(self, self.sleep_s[engine])


@dataclass
class Sleeper:
    house: House
    sleep_s: float
    threads: set[int] = field(default_factory=set)

    def __enter__(self) -> Sleeper:
        self.house.open_now += 1
        self.house.most_open = max(self.house.most_open, self.house.open_now)
        return self

    def __exit__(self, *_: object) -> None:
        self.house.open_now -= 1
        assert len(self.threads - {threading.get_ident()}) <= 1, "a detector belongs to one thread"

    def __call__(self, image_bgr: npt.NDArray[np.uint8], /) -> None:
        assert image_bgr is IMAGE
        me = threading.get_ident()
        self.threads.add(me)
        self.house.inside.add(me)
        self.house.most_inside = max(self.house.most_inside, len(self.house.inside))
        time.sleep(self.sleep_s)
        self.house.inside.discard(me)


def test_requests_run_side_by_side_and_alternatives_take_turns() -> None:
    house = House({"openvino": 0.01, "opencv": 0.04})
    seen: list[tuple[int, int]] = []
    quick, slow = measure_throughput(
        [("openvino", "int8"), ("opencv", "fp32")],
        house.load,
        IMAGE,
        requests=3,
        seconds=0.36,
        on_round=lambda done, of: seen.append((done, of)),
    )
    turns = house.log[::3]
    assert turns == ["openvino int8", "opencv fp32", "opencv fp32", "openvino int8", "openvino int8", "opencv fp32"]
    assert seen == [(done, 2 * ROUNDS) for done in range(1, 2 * ROUNDS + 1)]
    assert (house.most_inside, house.most_open, house.open_now) == (3, 3, 0)
    assert (quick.engine, quick.precision, quick.requests) == ("openvino", "int8", 3)
    assert len(quick.windows_per_s) == ROUNDS
    assert 100 < quick.images_per_s <= 300  # three requests of 10 ms: 300 at most, more than one alone could do
    assert slow.images_per_s <= 75
    assert slow.request_ms >= 40
    assert slow.request_p99_ms >= slow.request_ms


def test_rates_and_times_by_a_clock_that_only_answers_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a second per answer: four in a window of one second, and the one that ends with it is the last."""
    now, answers = [0.0], [0]

    class Clocked(Sleeper):
        def __call__(self, image_bgr: npt.NDArray[np.uint8], /) -> None:
            now[0] += 0.25
            answers[0] += 1

    monkeypatch.setattr("edgedet_runtime.profiling.throughput.time.perf_counter", lambda: now[0])
    house = House({})
    (only,) = measure_throughput([("opencv", "fp32")], lambda *_: Clocked(house, 0.0), IMAGE, requests=1, seconds=3.0)
    assert answers[0] == ROUNDS * (1 + 4)
    assert (only.images_per_s, only.windows_per_s) == (4.0, (4.0,) * ROUNDS)
    assert (only.request_ms, only.request_p99_ms) == (250.0, 250.0)


def test_an_answer_slower_than_the_window_counts() -> None:
    (only,) = measure_throughput([("opencv", "fp32")], House({"opencv": 0.05}).load, IMAGE, requests=1, seconds=0.003)
    assert 0 < only.images_per_s <= 20


def test_a_detector_that_fails_is_an_error_not_a_hang() -> None:
    class Broken(Sleeper):
        def __call__(self, image_bgr: npt.NDArray[np.uint8], /) -> None:
            if threading.current_thread() is not threading.main_thread():
                raise EngineError("out of order")

    house = House({})
    with pytest.raises(EngineError, match="out of order"):
        measure_throughput([("opencv", "fp32")], lambda *_: Broken(house, 0.0), IMAGE, requests=2, seconds=0.1)
    assert house.open_now == 0


@pytest.mark.parametrize(("requests", "seconds"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_refuses(requests: int, seconds: float) -> None:
    with pytest.raises(InputError, match="1 or more requests"):
        measure_throughput([], House({}).load, IMAGE, requests=requests, seconds=seconds)
