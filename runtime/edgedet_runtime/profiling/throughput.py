"""Images per second with several requests in flight, as a program with `Detector` reaches it.

A detector belongs to one thread at a time, so several requests in flight are several threads, each with a detector of
its own that has one engine thread; all three steps run in parallel, since numpy, OpenCV and the engines release
Python's lock. One request on all cores is answered sooner; requests side by side waste less on waiting for each other
within a layer, so more of them are answered. That costs the weights once per request in memory.

Alternatives take turns in short windows. Each window loads its own detectors, so that no more than one alternative is
in memory: on a small board all of them together would not fit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from threading import Barrier

import numpy as np
import numpy.typing as npt

from edgedet_runtime.choices import EngineName, Precision
from edgedet_runtime.errors import InputError

__all__ = ["Throughput", "measure_throughput"]

ROUNDS = 3

Image = npt.NDArray[np.uint8]
Detect = Callable[[Image], object]


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one engine and precision answer with several requests in flight.

    Attributes:
        engine: Its name.
        precision: ``fp32`` or ``int8``.
        requests: Requests in flight: threads, each with a detector of one engine thread.
        images_per_s: Median over the windows.
        windows_per_s: Images per second of each window, in the order in which they were measured.
        request_ms: Median time from a picture to its detections, meanwhile.
        request_p99_ms: Its 99th percentile.
    """

    engine: EngineName
    precision: Precision
    requests: int
    images_per_s: float
    windows_per_s: tuple[float, ...]
    request_ms: float
    request_p99_ms: float


def measure_throughput(
    alternatives: Sequence[tuple[EngineName, Precision]],
    load: Callable[[EngineName, Precision], AbstractContextManager[Detect]],
    image_bgr: Image,
    *,
    requests: int,
    seconds: float,
    on_round: Callable[[int, int], object] | None = None,
) -> tuple[Throughput, ...]:
    """Keep several requests in flight for a while, alternatives taking turns.

    Args:
        alternatives: Engine and precision of each.
        load: Gives a detector of one engine thread for an engine and precision.
        image_bgr: uint8 (H, W, 3) picture.
        requests: Requests in flight, at least 1.
        seconds: For each alternative, over all of its windows; each request is answered once at least, and loading
            comes on top.
        on_round: Called with windows done and windows in all.

    Raises:
        InputError: `requests` is below 1, or `seconds` is not positive.
        EdgedetError: A detector failed.
    """
    if requests < 1 or not seconds > 0:
        raise InputError(
            f"throughput: expected 1 or more requests in flight for some seconds, got {requests}, {seconds}"
        )
    rates: dict[tuple[EngineName, Precision], list[float]] = {key: [] for key in alternatives}
    times_ms: dict[tuple[EngineName, Precision], list[float]] = {key: [] for key in alternatives}
    order = list(rates)
    for number in range(ROUNDS):
        shift = number % max(1, len(order))
        for done, key in enumerate(order[shift:] + order[:shift]):
            with ExitStack() as stack:
                detectors = [stack.enter_context(load(*key)) for _ in range(requests)]
                answered = _window(detectors, image_bgr, seconds / ROUNDS)
            rates[key].append(sum(len(ms) / sum(ms) * 1e3 for ms in answered))
            times_ms[key] += [ms for of_one in answered for ms in of_one]
            if on_round is not None:
                on_round(number * len(order) + done + 1, ROUNDS * len(order))
    return tuple(
        Throughput(
            *key,
            requests=requests,
            images_per_s=statistics.median(rates[key]),
            windows_per_s=tuple(rates[key]),
            request_ms=float(np.median(times_ms[key])),
            request_p99_ms=float(np.percentile(times_ms[key], 99)),
        )
        for key in order
    )


def _window(detectors: Sequence[Detect], image_bgr: Image, seconds: float) -> list[list[float]]:
    """Return the milliseconds of each answer, by thread.

    A thread that is in the middle of an answer at the end finishes and counts it: each thread's rate is taken over its
    own time, so nothing is cut off.
    """
    for detect in detectors:
        detect(image_bgr)
    barrier = Barrier(len(detectors))

    def work(detect: Detect) -> list[float]:
        taken_ms: list[float] = []
        barrier.wait()
        now = time.perf_counter()
        end = now + seconds
        while now < end:
            start = now
            detect(image_bgr)
            now = time.perf_counter()
            taken_ms.append((now - start) * 1e3)
        return taken_ms

    with ThreadPoolExecutor(len(detectors)) as pool:
        return list(pool.map(work, detectors))
