"""How fast this machine moves bytes, from its caches and from its memory.

A copy with numpy, as STREAM's Copy (McCalpin, Memory Bandwidth and Machine Balance in Current High Performance
Computers, 1995): bytes read plus bytes written, over time, the best of several. Each thread copies buffers of its own.
It is repeated over growing buffers: small ones stay in the caches, the largest is several times the last cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import numpy as np

from edgedet_runtime.cpu import system_text

__all__ = ["Bandwidth", "last_cache_bytes", "measure_bandwidth"]

MIB = 1 << 20
_SMALLEST, _LARGEST = MIB, 256 * MIB
_STEP = 4
_OVER_CACHE = 4
_SAMPLES = 5
_PER_SAMPLE = 128 * MIB


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bytes per second by the number of bytes touched.

    Attributes:
        threads: Threads that copied.
        touched_bytes: Bytes read and written in one pass over the buffers, ascending.
        gb_per_s: 1e9 bytes per second for each.
    """

    threads: int
    touched_bytes: tuple[int, ...]
    gb_per_s: tuple[float, ...]

    @property
    def cache_gb_per_s(self) -> float:
        """Of the smallest buffers."""
        return self.gb_per_s[0]

    @property
    def memory_gb_per_s(self) -> float:
        """Of the largest buffers."""
        return self.gb_per_s[-1]

    def at(self, touched: int) -> float:
        """Return GB/s for something that touches so many bytes, interpolated on logarithmic scales."""
        x = math.log(max(touched, 1))
        xs, ys = np.log(self.touched_bytes), np.log(self.gb_per_s)
        return float(np.exp(np.interp(x, xs, ys)))


def measure_bandwidth(threads: int, *, sizes: Sequence[int] | None = None, samples: int = _SAMPLES) -> Bandwidth:
    """Measure with so many threads; takes about a second.

    Args:
        threads: Threads that copy at the same time, each its part.
        sizes: Bytes touched in one pass by all threads together, ascending; None goes from 1 MiB to four times the
            last cache, at least 64 MiB, at most 256 MiB or a quarter of the free memory.
        samples: Measurements per size, of which the best counts.
    """
    sizes = _sizes() if sizes is None else sizes
    with ThreadPoolExecutor(threads) as pool:
        rates = tuple(max(_copy(pool, threads, size) for _ in range(samples)) for size in sizes)
    return Bandwidth(threads, tuple(sizes), rates)


def _copy(pool: ThreadPoolExecutor, threads: int, size: int) -> float:
    """Return GB/s of one measurement."""
    barrier = Barrier(threads)
    items = max(1, size // (2 * threads * 8))
    passes = max(1, _PER_SAMPLE // size)

    def work(_: int) -> tuple[float, float]:
        source, target = np.ones(items), np.zeros(items)
        np.copyto(target, source)
        barrier.wait()
        start = time.perf_counter()
        for _ in range(passes):
            np.copyto(target, source)
        return start, time.perf_counter()

    spans = list(pool.map(work, range(threads)))
    elapsed_s = max(end for _, end in spans) - min(start for start, _ in spans)
    return 2 * 8 * items * passes * threads / elapsed_s / 1e9


def _sizes() -> list[int]:
    largest = min(max(64 * MIB, _OVER_CACHE * (last_cache_bytes() or 0)), _LARGEST)
    free = _available_bytes()
    if free is not None:
        largest = max(_SMALLEST, min(largest, free // 4))
    sizes = [_SMALLEST]
    while sizes[-1] * _STEP < largest:
        sizes.append(sizes[-1] * _STEP)
    return [*sizes, largest] if largest > sizes[-1] else sizes


def last_cache_bytes(root: Path = Path("/")) -> int | None:
    """Return the size of the first CPU's largest cache; None where the system does not tell."""
    sizes = []
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = system_text(path).strip()
        unit = {"K": 1 << 10, "M": MIB}.get(text[-1:], 1)
        digits = text.rstrip("KM")
        sizes += [int(digits) * unit] if digits.isdecimal() else []
    return max(sizes, default=None)


def _available_bytes() -> int | None:
    """Return the memory that is free, or the container's limit if that is less; None where neither is told."""
    lines = system_text(Path("/proc/meminfo")).splitlines()
    known = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = system_text(Path("/sys/fs/cgroup") / name).strip()
        known += [int(limit)] if limit.isdecimal() else []
    return min(known, default=None)
