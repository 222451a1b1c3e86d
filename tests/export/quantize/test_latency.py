"""Latencies side by side: who runs when on what, and the numbers made of the times."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_export.quantize import latency
from edgedet_export.quantize.latency import Latencies, measure_latencies


def test_rounds_of_three_on_one_tensor_each(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    clock = iter(range(1000))
    times: dict[str, list[int]] = {"fp32": [], "int8": []}

    def runner(name: str) -> Any:
        def run(tensor: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
            seen.append((name, int(tensor)))
            return {}

        return run

    def elapsed(run: Any) -> float:
        run()
        times[seen[-1][0]].append(next(clock))
        return float(times[seen[-1][0]][-1]) * (2 if seen[-1][0] == "fp32" else 1)

    monkeypatch.setattr(latency, "elapsed_ms", elapsed)
    found = measure_latencies({n: runner(n) for n in times}, [np.array(10), np.array(20)], runs=7)
    assert [len(t) for t in times.values()] == [1 + 3 + 7, 1 + 3 + 7], "a warm-up, one run per block that counts not, 7"
    for name in times:
        assert [tensor for n, tensor in seen if n == name] == [10] + [10] * 4 + [20] * 4 + [10] * 2
        factor = 2 if name == "fp32" else 1
        counted = [times[name][2:5], times[name][6:9], times[name][10:]]
        assert found.rounds[name] == tuple(factor * block[len(block) // 2] for block in counted)
        assert found.ms[name] == factor * sorted(t for block in counted for t in block)[3]
    ratios = sorted(a / b for a, b in zip(found.rounds["fp32"], found.rounds["int8"], strict=True))
    assert found.speedup == {"fp32": 1.0, "int8": ratios[1]}


def test_clearly_faster_is_faster_in_three_of_four_rounds() -> None:
    slow = (12.0,) * 4
    for lost, clear in ((0, True), (1, True), (2, False)):
        fast = (13.0,) * lost + (10.0,) * (4 - lost)
        assert Latencies({}, {}, {"a": fast, "b": slow}).clearly_faster("a", "b", by=0.05) is clear
    assert not Latencies({}, {}, {"a": (10.0,) * 4, "b": (10.5,) * 4}).clearly_faster("a", "b", by=0.05)
    assert not Latencies({}, {}, {"a": (12.0,) + (10.0,) * 3, "b": slow}).clearly_faster("a", "b", by=0.3)
    even = Latencies({}, {}, {"a": (12.0, 12.0) + (10.0,) * 3, "b": (12.0,) * 5})
    assert not even.clearly_faster("a", "b", by=0.05), "as fast in two of five is not faster"
