"""Streaming statistics do not depend on the order, and the ranges chosen from them are the ones meant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet_export.quantize.ranges import RangeRule, TensorStatistics, choose_range
from edgedet_export.quantize.tensor_ranges import TensorRanges

RULES: tuple[RangeRule, ...] = ("minmax", "percentile", "mse")


def statistics(arrays: list[npt.NDArray[np.float32]]) -> TensorStatistics:
    found = TensorStatistics()
    for array in arrays:
        found.update(array)
    return found


def batches(seed: int) -> list[npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(1, 3, 5, 7)) * 10.0**e).astype(np.float32) for e in (-3, 0, 2, 1)]


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(4)), seed=st.integers(0, 5))
def test_histogram_does_not_depend_on_the_order(order: list[int], seed: int) -> None:
    arrays = batches(seed)
    a, b = statistics(arrays), statistics([arrays[i] for i in order])
    for left, right in zip(a.histogram(), b.histogram(), strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(a.channel_high, b.channel_high)
    np.testing.assert_allclose(a.channel_power, b.channel_power, rtol=1e-12)


def test_nothing_is_lost_when_bins_merge() -> None:
    arrays = batches(0)
    found = statistics(arrays)
    everything = np.concatenate([a.ravel() for a in arrays])
    centers, counts = found.histogram()
    assert found.count == counts.sum() == everything.size
    assert (found.low, found.high) == (everything.min(), everything.max())
    width = (found.high - found.low) / 2048
    for threshold in (-50.0, -1.0, 0.0, 1.0, 50.0):
        assert (
            abs(counts[centers <= threshold].sum() - (everything <= threshold).sum())
            <= (np.abs(everything - threshold) <= 2 * width).sum()
        )
    np.testing.assert_allclose(
        found.channel_power,
        np.square(np.concatenate([a.reshape(3, -1) for a in arrays], 1).astype(np.float64)).mean(1),
        rtol=1e-5,
    )


def test_constant_tensor() -> None:
    found = statistics([np.full((1, 2, 4), 3.5, np.float32)] * 2)
    centers, counts = found.histogram()
    assert counts.sum() == 16
    assert choose_range("mse", (3.5, 3.5), centers, counts) == pytest.approx((0.0, 3.5), rel=0.02)


@pytest.mark.parametrize("rule", RULES)
def test_range_contains_zero(rule: RangeRule) -> None:
    for shift in (-9.0, 9.0):
        values = (np.random.default_rng(0).normal(size=10000) + shift).astype(np.float32)
        found = statistics([values.reshape(1, 1, -1)])
        low, high = choose_range(rule, (found.low, found.high), *found.histogram())
        assert low <= 0.0 <= high
        assert max(-low, high) > 9.0


def test_rare_outlier_is_cut_by_all_but_minmax() -> None:
    arrays = [np.random.default_rng(i).normal(size=(1, 1, 1 << 16)).astype(np.float32) for i in range(8)]
    arrays[0][0, 0, 7] = 100.0
    found = statistics(arrays)
    ranges = {rule: choose_range(rule, (found.low, found.high), *found.histogram()) for rule in RULES}
    assert ranges["minmax"][1] == 100.0
    assert ranges["percentile"][1] < 10.0
    assert ranges["mse"][1] < 80.0


def test_least_squares_beats_minmax() -> None:
    values = np.random.default_rng(0).laplace(size=1 << 15)
    found = statistics([values.reshape(1, 1, -1).astype(np.float32)])

    def error(bounds: tuple[float, float]) -> float:
        step = (bounds[1] - bounds[0]) / 255
        grid = np.clip(np.round(values / step), np.round(bounds[0] / step), np.round(bounds[1] / step)) * step
        return float(((grid - values) ** 2).mean())

    bounds = (found.low, found.high)
    best = choose_range("mse", bounds, *found.histogram())
    assert error(best) < 0.95 * error(choose_range("minmax", bounds, *found.histogram()))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_percentile_is_99_999(sign: float) -> None:
    """Half of 0.001 % of the elements, 5 of a million, lies beyond each end; a sixth one is spanned."""
    centers = sign * np.array([1.0, 7.0, 8.0, 9.0])
    counts = np.array([1_000_000.0 - 96 - 2 - 4, 96.0, 2.0, 4.0])
    order = np.argsort(centers)
    ends = {}
    for beyond in (4.0, 6.0):
        counts[3] = beyond
        low, high = choose_range("percentile", (-100.0, 100.0), centers[order], counts[order])
        ends[beyond] = low if sign < 0 else high
    assert ends == {4.0: sign * 8.0, 6.0: sign * 9.0}


def test_a_sample_of_a_large_tensor_sees_odd_and_even_places() -> None:
    found = statistics([np.tile(np.array([0.0, 1.0], np.float32), 1 << 17).reshape(1, 1, -1)])
    _, counts = found.histogram()
    assert len(counts) == 2
    assert counts[0] == pytest.approx(counts[1], rel=1e-3)


def test_a_joint_range_counts_each_element_once() -> None:
    """A large tensor enters the histogram by a sample, which must not let a small tensor's outliers weigh more."""
    large = statistics([np.ones((1, 1, 1 << 20), np.float32)])
    small = statistics([np.array([[[9.0] * 4 + [1.0] * 4]], np.float32)])
    ranges = TensorRanges({"large": large, "small": small}, "percentile")
    assert ranges.choose_joint(["large", "small"])[1] == pytest.approx(1.0, abs=9 / 4096)
    assert ranges.choose("small")[1] == pytest.approx(9.0, abs=9 / 4096)
    assert TensorRanges({"large": large, "small": small}, "minmax").choose_joint(["large", "small"]) == (0.0, 9.0)


def test_power_of_channels_that_nothing_was_seen_of() -> None:
    assert statistics([]).channel_power.shape == (0,)
    found = statistics([np.array([[[1.0, 3.0], [2.0, 2.0]]], np.float32), np.array([[[5.0], [0.0]]], np.float32)])
    np.testing.assert_allclose(found.channel_power, [(1 + 9 + 25) / 3, 8 / 3])
