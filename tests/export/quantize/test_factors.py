"""The factors of channels, to the number, on networks of two or three layers with ranges that are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from edgedet_export.graph.edits import by_name
from edgedet_export.graph.values import constant
from edgedet_export.quantize.channel_links import ChannelLinks
from edgedet_export.quantize.equalize import Equalized, ScaleChannels, equalize
from edgedet_export.quantize.layers import find_layers
from edgedet_export.quantize.ranges import TensorStatistics

from .small_graphs import draw, small_model

ONES = np.ones((4, 4, 1, 1), np.float32)


def seen(*channels: float) -> TensorStatistics:
    """Return statistics of a tensor with these extremes, one per channel."""
    found = TensorStatistics()
    found.update(np.array(channels, np.float32).reshape(1, -1, 1, 1))
    return found


def chain(act: str = "t = Relu(a)", **weights: Any) -> ir.Model:
    """Return x → a = 1x1 convolution → t → y = 1x1 convolution."""
    given = {"w": (4, 4, 1, 1), "b": (4,), "v": ONES, **weights}
    return small_model(f"(float[1,4,4,4] x) => (float[] y) {{ a = Conv(x, w, b) {act} y = Conv(t, v) }}", **given)


def input_of(model: ir.Model, made: str, index: int) -> npt.NDArray[Any]:
    node = by_name(model.graph)[made].producer()
    assert node is not None
    found = constant(node.inputs[index])
    assert found is not None
    return found


def factors_of(model: ir.Model, found: Equalized) -> list[float]:
    """Return what the biases of `a` were divided by."""
    return list(input_of(model, "a", 2) / input_of(found.model, "a", 2))


def test_the_root_of_range_over_weight_goes_into_both_sides() -> None:
    v = np.array([[8, 4, 2, 1], [0, 0, 0, 0], [0, 1, 1, 1]], np.float32).reshape(3, 4, 1, 1)
    model = chain(v=v)
    found = equalize(model, {"t": seen(16, -8, 4, 1)})
    assert found is not None
    # ranges 1, 1/2, 1/4, 1/16; weights 1, 1, 1, 1, each relative to the largest of its output channel
    expected = np.sqrt([1, 1 / 2, 1 / 4, 1 / 16])
    np.testing.assert_allclose(factors_of(model, found), expected, rtol=1e-5)
    np.testing.assert_allclose(
        input_of(found.model, "a", 1), input_of(model, "a", 1) / expected.reshape(4, 1, 1, 1), rtol=1e-5
    )
    np.testing.assert_allclose(input_of(found.model, "y", 1), v * expected.reshape(1, 4, 1, 1), rtol=1e-6)
    assert found.channels == 3, "a factor of 1 is none"
    assert found.spread == pytest.approx(4)
    v = np.array([[16, 4, 1, 1], [4, 1, 1, 1]], np.float32).reshape(2, 4, 1, 1)
    model = chain(v=v)
    found = equalize(model, {"t": seen(1, 1, 1, 1)})
    assert found is not None
    np.testing.assert_allclose(factors_of(model, found), 1 / np.sqrt([1, 1 / 4, 1 / 4, 1 / 4]), rtol=1e-5)


def test_groups_have_weights_of_their_own() -> None:
    v = np.array([[1, 2], [1, 1], [1, 8], [1, 8]], np.float32).reshape(4, 2, 1, 1)
    model = small_model(
        "(float[1,4,4,4] x) => (float[] z) { a = Conv(x, w, b) t = Relu(a) y = Conv<group=2>(t, v) z = Tanh(y) }",
        w=(4, 4, 1, 1), b=(4,), v=v,
    )  # fmt: skip
    found = equalize(model, {"t": seen(16, 16, 1, 1)})
    assert found is not None
    # ranges 1, 1, 1/16, 1/16; weights 1, 1 | 1/8, 1
    expected = np.sqrt([1, 1, 1 / 16 * 8, 1 / 16])
    np.testing.assert_allclose(factors_of(model, found), expected, rtol=1e-5)
    scaled = v.reshape(4, 2) * np.stack([expected[:2], expected[:2], expected[2:], expected[2:]])
    np.testing.assert_allclose(input_of(found.model, "y", 1).reshape(4, 2), scaled, rtol=1e-5)


def test_the_largest_of_all_readers_counts() -> None:
    model = small_model(
        "(float[1,4,4,4] x) => (float[] y, float[] z)"
        "{ a = Conv(x, w, b) t = Relu(a) u = MaxPool<kernel_shape=[1,1]>(t) y = Conv(t, v) z = Conv(u, v) }",
        w=(4, 4, 1, 1), b=(4,), v=ONES,
    )  # fmt: skip
    found = equalize(model, {"t": seen(16, 4, 1, 1), "u": seen(1, 1, 1, 16)})
    assert found is not None
    np.testing.assert_allclose(factors_of(model, found), np.sqrt([1, 1 / 4, 1 / 16, 1]), rtol=1e-5)
    found = equalize(model, {"u": seen(1, 1, 1, 16)})
    assert found is not None, "what was not measured does not count"
    np.testing.assert_allclose(factors_of(model, found), np.sqrt([1 / 16, 1 / 16, 1 / 16, 1]), rtol=1e-5)


def test_a_factor_is_at_least_a_1024th_and_at_most_1024() -> None:
    v = ONES.copy()
    v[:, 1] = 1e-9
    model = chain(v=v)
    found = equalize(model, {"t": seen(0, 1, 1, 1)})
    assert found is not None
    np.testing.assert_allclose(factors_of(model, found), [1 / 1024, 1024, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("ratio", "worth"), [(3.8, False), (4.2, True)])
def test_factors_within_two_of_each_other_are_not_worth_it(ratio: float, worth: bool) -> None:
    found = equalize(chain(), {"t": seen(ratio, 1, 1, 1)})
    assert (found is not None) is worth


def test_nothing_to_do() -> None:
    assert equalize(chain(), {}) is None
    assert equalize(chain(), {"t": seen(0, 0, 0, 0)}) is None, "a tensor of zeros"
    assert equalize(chain("t = Tanh(a)"), {"t": seen(16, 1, 1, 1)}) is None
    assert equalize(chain(v=0 * ONES), {"t": seen(16, 1, 1, 1)}) is None, "nothing reads its channels"


SMOOTH = "g = Sigmoid(a) t = Mul(a, g)"


def test_smoothing_divides_in_a_product_and_weighs_the_weights_more() -> None:
    v = np.array([[16, 4, 1, 1]], np.float32).reshape(1, 4, 1, 1)
    model = chain(SMOOTH, v=v)
    assert equalize(model, {"t": seen(16, 1, 1, 1)}) is None
    found = equalize(model, {"t": seen(16, 1, 1, 16)}, smooth=True)
    assert found is not None
    expected = np.array([1, 1 / 16, 1 / 16, 1]) ** 0.25 / np.array([1, 1 / 4, 1 / 16, 1 / 16]) ** 0.75
    (product,) = (n for n in found.model.graph if n.op_type == "Mul" and n.inputs[0] is by_name(found.model.graph)["t"])
    factors = constant(product.inputs[1])
    assert factors is not None
    assert factors.shape == (1, 4, 1, 1)
    np.testing.assert_allclose(factors.reshape(4), 1 / expected, rtol=1e-6)
    np.testing.assert_allclose(input_of(found.model, "y", 1), v * expected.reshape(1, 4, 1, 1), rtol=1e-5)
    np.testing.assert_array_equal(input_of(found.model, "a", 2), input_of(model, "a", 2))


def two_stretches(first: str = SMOOTH) -> ir.Model:
    return small_model(
        f"(float[1,4,4,4] x) => (float[] z) {{ a = Conv(x, w, b) {first} c = Conv(t, v) h = Sigmoid(c) u = Mul(c, h)"
        " z = Conv(u, v) }", w=(4, 4, 1, 1), b=(4,), v=ONES,
    )  # fmt: skip


def products(found: Equalized) -> list[str]:
    return [
        n.outputs[0].name or "" for n in found.model.graph if n.op_type == "Mul" and constant(n.inputs[1]) is not None
    ]


def test_products_that_are_not_worth_it_go_again() -> None:
    wide, narrow = seen(256, 1, 1, 1), seen(8, 1, 1, 1)  # factors of 4 and of 1.7
    statistics = {"t": wide, "u": narrow}
    found = equalize(two_stretches(), statistics, smooth=True)
    assert found is not None
    assert products(found) == ["t_smooth"]
    np.testing.assert_allclose(factors_after(found), [1, 1, 1, 1])
    both = equalize(two_stretches(), {"t": wide, "u": wide}, smooth=True)
    assert both is not None
    assert products(both) == ["t_smooth", "u_smooth"]
    assert both.channels == 6
    assert both.spread == pytest.approx(4)
    assert equalize(two_stretches(), {"t": narrow, "u": narrow}, smooth=True) is None


def factors_after(found: Equalized) -> npt.NDArray[Any]:
    """Return what the weights of `z` were multiplied by."""
    return np.asarray(input_of(found.model, "z", 1)[0].reshape(4))


def test_smoothing_needs_a_product_that_is_worth_it() -> None:
    """Free channels alone are the equalized form's affair."""
    model = two_stretches("t = Relu(a)")
    statistics = {"t": seen(256, 1, 1, 1), "u": seen(1, 1, 1, 1)}
    assert equalize(model, statistics) is not None
    assert equalize(model, statistics, smooth=True) is None
    assert equalize(chain(), {"t": seen(256, 1, 1, 1)}, smooth=True) is None, "there is no product at all"


@pytest.mark.parametrize("order", ["a, k", "k, a"])
def test_products_of_the_network_take_factors_of_both_sides(order: str) -> None:
    """`a` is read by a convolution and by a product with constants, whose result another convolution reads."""
    k = np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1)
    model = small_model(
        "(float[1,4,4,4] x) => (float[] y, float[] z)"
        f"{{ a = Conv(x, w, b) m = Mul({order}) y = Conv(a, v) z = Conv(m, v) }}",
        w=(4, 4, 1, 1), b=(4,), v=ONES, k=k,
    )  # fmt: skip
    at = 1 if order == "a, k" else 0
    both = equalize(model, {"a": seen(16, 1, 1, 1), "m": seen(1, 1, 16, 1)})
    one = equalize(model, {"a": seen(16, 1, 1, 1)})
    other = equalize(model, {"m": seen(1, 1, 16, 1)})
    assert both is not None
    assert one is not None
    assert other is not None
    # the factors are 1, 1/4, 1/4, 1/4 in front of the product and 1/4, 1/4, 1, 1/4 behind it
    for found, expected in ((both, [4, 2, 3 / 4, 4]), (one, [1, 2 / 4, 3 / 4, 4 / 4]), (other, [4, 8, 3, 16])):
        scaled = input_of(found.model, "m", at)
        assert scaled.shape == (1, 4, 1, 1)
        np.testing.assert_allclose(scaled.reshape(4), expected, rtol=1e-5)


def test_the_report_names_what_was_scaled_and_what_could_not_be() -> None:
    k = np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1)
    model = small_model(
        "(float[1,4,4,4] x) => (float[] y, float[] z, float[] q)"
        "{ a = Conv(x, w, b) t = Relu(a) m = Mul(t, k) n = Mul(t, half) y = Conv(m, v) s = Exp(n) o = Conv(s, v)"
        " z = ConvTranspose(o, u) f = Reshape(o, flat) q = Conv(f, row) }",
        w=(4, 4, 1, 1), b=(4,), v=ONES, k=k, half=np.array([0.5], np.float32), u=(4, 3, 1, 1),
        flat=np.array([1, 4, 16]), row=(2, 4, 1),
    )  # fmt: skip
    layers, links = find_layers(model.graph), ChannelLinks(model.graph)
    factors = np.ones(links.total)
    factors[links.groups("m")] = [1, 2, 4, 1]
    report = ScaleChannels(layers, links, factors)(model.clone()).report
    assert [(c.path, c.what) for c in report.changed] == [
        ("y", "weights scaled by channel"),
        ("m", "factors scaled by channel"),
    ]
    assert [d.path for d in report.declined] == ["z", "q"]
    nothing = ScaleChannels(layers, links, np.ones(links.total))(model.clone()).report
    assert nothing.changed == ()
    statistics = {"o": seen(1, 1, 1, 9), "s": seen(1, 1, 1, 1), "f": seen(1, 2, 3, 4)}
    assert equalize(model, statistics) is None, "transposed, or of another rank: its channels stay"


def test_scaled_weights_are_new_tensors() -> None:
    model = chain()
    found = equalize(model, {"t": seen(16, 1, 1, 1)})
    assert found is not None
    np.testing.assert_array_equal(input_of(model, "a", 1), draw("w", (4, 4, 1, 1)))
