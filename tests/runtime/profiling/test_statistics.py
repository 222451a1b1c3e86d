"""Percentiles, the bootstrap interval and the slope."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling import statistics
from edgedet_runtime.profiling.statistics import Interval, ratio_of_medians, slope, summarize


def test_summary_of_known_sample() -> None:
    s = summarize([float(v) for v in range(1, 102)])
    assert (s.count, s.median, s.p90, s.p99, s.lowest, s.highest) == (101, 51.0, 91.0, 100.0, 1.0, 101.0)
    assert s.spread == pytest.approx((76 - 26) / 51)
    assert s.unsteady


def test_an_outlier_moves_neither_median_nor_spread() -> None:
    steady = [10.0] * 50
    s = summarize([*steady, 500.0])
    assert (s.median, s.spread, s.highest) == (10.0, 0.0, 500.0)
    assert not s.unsteady


@pytest.mark.parametrize("sample", [[], [1.0, float("nan")], [float("inf")]])
def test_summary_refuses(sample: list[float]) -> None:
    with pytest.raises(InputError, match="finite numbers"):
        summarize(sample)


def test_ratio_sees_a_real_change_and_not_noise() -> None:
    random = np.random.default_rng(1)
    old = 20 + random.gamma(2.0, 1.0, 100)
    slower = (20 + random.gamma(2.0, 1.0, 100)) * 1.1
    same = 20 + random.gamma(2.0, 1.0, 100)
    change = ratio_of_medians(slower.tolist(), old.tolist())
    assert change.excludes(1.0)
    assert change.low < 1.1 < change.high
    assert not ratio_of_medians(same.tolist(), old.tolist()).excludes(1.0)


def test_ratio_is_repeatable_and_inverts() -> None:
    a, b = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]
    assert ratio_of_medians(a, b) == ratio_of_medians(a, b)
    assert ratio_of_medians(a, b).estimate == 0.5
    assert ratio_of_medians(b, a).estimate == 2.0


@pytest.mark.parametrize(("block", "most"), [(5, 0.1), (1, 1.0)])
def test_neighbors_that_are_disturbed_together_pass_for_no_change(block: int, most: float) -> None:
    """Nothing changed, but ten blocks of five runs were each disturbed as a whole."""
    random = np.random.default_rng(2)

    def measured() -> list[float]:
        disturbed = np.repeat(random.gamma(1.0, 3.0, 10), 5)
        return list(20 + disturbed + random.normal(0, 0.1, 50))

    pairs = [(measured(), measured()) for _ in range(200)]
    alarms = np.mean([ratio_of_medians(a, b, block=block, resamples=400).excludes(1.0) for a, b in pairs])
    assert alarms <= most
    assert block > 1 or alarms > 0.3, "one by one, noise passes for a change"


def test_the_interval_leaves_one_in_forty_on_each_side(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([np.arange(1.0, 1002.0), np.full(1001, 2.0)])
    monkeypatch.setattr(statistics, "_resampled_medians", lambda *_: next(drawn))
    found = ratio_of_medians([3.0, 3.0, 9.0], [1.0])
    assert (found.estimate, found.low, found.high) == (3.0, 13.0, 488.0)


@pytest.mark.parametrize(("value", "excluded"), [(0.9, True), (1.0, False), (1.5, False), (2.0, False), (2.1, True)])
def test_an_interval_excludes_what_lies_beyond_its_ends(value: float, excluded: bool) -> None:
    assert Interval(1.5, 1.0, 2.0).excludes(value) is excluded


def test_draws_are_blocks_that_wrap_around() -> None:
    """Thirteen values in blocks of three are five blocks; the last goes on at the start; what is too much is cut."""

    class Drawn:
        def integers(self, low: int, high: int, size: tuple[int, int]) -> Any:
            assert (low, high, size) == (0, 5, (2, 5))
            return np.array([[4, 4, 0, 1, 2], [1, 1, 1, 1, 1]])

    values = np.arange(10.0, 23.0) ** 2
    medians = statistics._resampled_medians(values, 3, 2, Drawn())  # type: ignore[arg-type]
    first = values[[12, 0, 1, 12, 0, 1, 0, 1, 2, 3, 4, 5, 6]]
    assert medians.tolist() == [np.median(first), values[4]]


@pytest.mark.parametrize(("size", "block"), [(20, 5), (19, 4), (8, 2), (7, 1), (3, 1)])
def test_blocks_are_at_least_four(size: int, block: int) -> None:
    seen: list[int] = []

    class Drawn:
        def integers(self, low: int, high: int, size: tuple[int, int]) -> Any:
            seen.append(high)
            return np.zeros(size, np.int64)

    statistics._resampled_medians(np.ones(size), 5, 3, Drawn())  # type: ignore[arg-type]
    assert seen == [-(-size // block)]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_ratio_refuses_what_is_no_time(value: float) -> None:
    with pytest.raises(InputError, match=r"^new sample: .* positive numbers, got "):
        ratio_of_medians([1.0, value], [1.0])
    with pytest.raises(InputError, match=r"^old sample: .* positive numbers, got "):
        ratio_of_medians([1.0], [value, 1.0])
    with pytest.raises(InputError, match=r"^old sample: .*, got \[\]$"):
        ratio_of_medians([1.0], [])


def test_slope() -> None:
    assert slope([1, 2, 3, 4], [3, 5, 7, 9]) == pytest.approx(2.0)
    assert slope([1], [3]) == 0.0
    assert slope([2, 2], [3, 9]) == 0.0
