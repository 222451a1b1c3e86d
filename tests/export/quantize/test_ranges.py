"""Streaming statistics do not depend on the order, and the ranges chosen from them are the ones meant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedet_export.quantize.ranges import RangeRule, TensorStatistics, choose_range
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_runtime.errors import ModelFileError

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


def ramp(count: int, step: float = 1.0, start: int = 0) -> npt.NDArray[np.float32]:
    return np.asarray(np.arange(start, start + count) * step, np.float32).reshape(1, 1, count)


@pytest.mark.parametrize("step", [1.0, 2.0**-30, 2.0**-120, 2.0**40])
@pytest.mark.parametrize("start", [0, -4000, -5000, 3_000])
def test_4096_bins_as_narrow_as_the_range_allows(step: float, start: int) -> None:
    centers, counts = statistics([ramp(4096, step, start)]).histogram()
    assert len(centers) == 4096
    assert counts.tolist() == [1] * 4096
    expected = (np.arange(start, start + 4096) + 0.5) * step
    np.testing.assert_array_equal(centers[:-1], expected[:-1])
    assert centers[-1] == (start + 4095) * step, "no center lies outside of what was seen"
    wider = statistics([ramp(4098, step, start)]).histogram()
    assert len(wider[0]) == 2049
    assert set(wider[1]) <= {1.0, 2.0}
    np.testing.assert_array_equal(np.diff(wider[0])[1:-2], 2 * step)


def test_what_was_seen_first_is_resolved_as_finely_as_what_came_later() -> None:
    for first in (0.0, 5e-6):
        centers, _ = statistics([np.full((1, 1, 2), first, np.float32), ramp(4000, 1e-9)]).histogram()
        assert len(centers) > 1500, first
    centers, counts = statistics([np.full((1, 1, 3), -2.5, np.float32)]).histogram()
    assert (centers.tolist(), counts.tolist()) == ([-2.5], [3.0])


@pytest.mark.parametrize(
    ("size", "counted"), [(65535, 65535), (65536, 65536), (65538, 21846), (3 * 65536, 65536), (3 * 65536 + 2, 39322)]
)
def test_at_most_65536_elements_of_an_array_are_counted(size: int, counted: int) -> None:
    """Every third, fifth and so on of a larger one: an odd step."""
    found = statistics([np.zeros((1, 1, size), np.float32)])
    assert found.count == size
    assert found.histogram()[1].sum() == counted


def test_arrays_without_channels_are_one_channel_and_empty_ones_are_nothing() -> None:
    found = statistics([np.zeros((0, 3, 2, 2), np.float32), np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)])
    assert (found.count, found.low, found.high) == (4, -2.0, 3.0)
    assert found.channel_high.tolist() == [3.0]
    assert found.channel_power.tolist() == [(1 + 4 + 9 + 0.25) / 4]
    assert statistics([np.array(3.0, np.float32)]).channel_power.tolist() == [9.0]
    empty = TensorStatistics()
    assert (empty.count, [len(part) for part in empty.histogram()]) == (0, [0, 0])
    assert (empty.low, empty.high) == (np.inf, -np.inf), "the range of nothing"
    assert [len(part) for part in (empty.channel_low, empty.channel_high, empty.channel_power)] == [0, 0, 0]


def test_least_squares_shrinks_at_most_to_a_fiftieth() -> None:
    """An element that hardly counts beside very many small ones."""
    centers, counts = np.append(np.linspace(-0.1, 0.1, 201), 100.0), np.append(np.full(201, 1e12), 1.0)
    low, high = choose_range("mse", (-0.1, 100.0), centers, counts)
    assert high == pytest.approx(2.0)
    positive = centers >= 0
    low, high = choose_range("mse", (-100.0, 0.0), -centers[positive][::-1], counts[positive][::-1])
    assert low == pytest.approx(-2.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_least_squares_keeps_the_range_whose_255_steps_meet_the_elements(sign: int) -> None:
    centers = sign * np.array([0.0, 127.0, 255.0])[:: int(sign)]
    counts = np.array([1.0, 1e6, 1.0])
    bounds = (0.0, 255.0) if sign > 0 else (-255.0, 0.0)
    assert choose_range("mse", bounds, centers, counts) == bounds


def test_both_ends_shrink() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=100_000), [60.0, -40.0]])
    found = statistics([values.reshape(1, 1, -1).astype(np.float32)])
    low, high = choose_range("mse", (found.low, found.high), *found.histogram())
    assert -8 < low < -3
    assert 3 < high < 8


def test_a_range_is_found_once_and_remembered_by_its_floor() -> None:
    made = {"x": statistics([np.array([[[-30.0, -3.0, 4.0]]], np.float32)]), "y": statistics([ramp(9)])}
    ranges = TensorRanges(made, "minmax")
    assert ranges.choose("x") == (-30.0, 4.0)
    assert ranges.choose("x", floor=-10.0) == (-10.0, 4.0)
    assert ranges.choose("x", floor=6.0) == (0.0, 6.0)
    assert ranges.choose("x") == (-30.0, 4.0)
    assert ranges.choose_joint(["x"]) == (-30.0, 4.0)
    assert ranges.choose_joint(["x", "y"]) == (-30.0, 8.0)
    made["x"].update(np.full((1, 1, 1), 99.0, np.float32))
    assert ranges.choose("x") == (-30.0, 4.0)
    assert ranges.choose_joint(["x", "y"]) == (-30.0, 8.0)


def test_elements_below_the_floor_count_as_the_floor() -> None:
    values = np.concatenate([np.full(1000, -30.0), np.linspace(-10, 5, 60_000)]).astype(np.float32)
    made = {"x": statistics([values.reshape(1, 1, -1)])}
    assert TensorRanges(made, "percentile").choose("x", floor=-10.0)[0] == -10.0
    assert TensorRanges(made, "mse").choose("x", floor=-10.0)[0] == pytest.approx(-10.0, rel=0.1)


def test_a_joint_range_orders_the_elements_of_all_tensors() -> None:
    made = {"x": statistics([ramp(1000, 1.0, 500)]), "y": statistics([ramp(1000, 1.0, -900)])}
    low, high = TensorRanges(made, "percentile").choose_joint(["x", "y"])
    assert low == pytest.approx(-900, abs=1)
    assert high == pytest.approx(1499, abs=1)


def test_a_tensor_that_was_not_measured_is_an_error() -> None:
    ranges = TensorRanges({"x": TensorStatistics()}, "minmax")
    for name in ("x", "y"):
        with pytest.raises(ModelFileError, match=f"expected statistics of the tensor {name}, got none"):
            ranges.choose(name)
        with pytest.raises(ModelFileError, match=f"tensor {name}"):
            ranges.choose_joint([name])
