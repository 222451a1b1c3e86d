"""Equalized channels: the same function, channels of like ranges, and 8 bits that hurt less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.values import constant
from edgedet_export.quantize import QuantConfig, measure
from edgedet_export.quantize.channel_links import channel_factors
from edgedet_export.quantize.equalize import Form
from edgedet_export.quantize.equalize import equalize as equalize_model
from edgedet_export.quantize.measure import Measured
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.trials import Recipe, Workbench
from edgedet_runtime.engines import EngineName
from edgedet_runtime.spec import ModelSpec

from .tiny_detector import pictures, tiny_detector

Outputs = dict[str, npt.NDArray[np.float32]]


def _multiply(model: onnx.ModelProto, name: str, factors: npt.NDArray[np.float64]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = (numpy_helper.to_array(tensor) * factors).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def unbalance(model: onnx.ModelProto, spread: float, seed: int = 0) -> None:
    """Scale the channels between stem, depthwise, pointwise and what reads it; the function stays the same."""
    rng = np.random.default_rng(seed)
    column, row = (-1, 1, 1, 1), (1, -1, 1, 1)
    before = np.ones(16)
    for name in ("stem", "depthwise"):
        after = spread ** rng.uniform(-1, 1, 16)
        incoming = before.reshape(column)  # a depthwise convolution has one input channel per row
        _multiply(model, f"{name}_w", after.reshape(column) / incoming)
        _multiply(model, f"{name}_b", after)
        before = after
    _multiply(model, "pointwise_w", 1 / before.reshape(row))


@dataclass(frozen=True)
class Found:
    """What `equalize` found, its model as protobuf."""

    model: onnx.ModelProto
    channels: int
    spread: float


def equalize(
    model: onnx.ModelProto, statistics: Mapping[str, TensorStatistics], *, smooth: bool = False
) -> Found | None:
    found = equalize_model(from_proto(model), statistics, smooth=smooth)
    return None if found is None else Found(to_proto(found.model), found.channels, found.spread)


def run(model: onnx.ModelProto, measured: Measured, spec: ModelSpec) -> list[Outputs]:
    runner = onnx_runner(model, threads=1)
    return [dict(runner(t)) for t in measured.pictures.tensors(spec)]


def imbalance(measured: Measured, tensor: str) -> float:
    high = measured.calibration.statistics[tensor].channel_high
    return float(high.max() / np.median(high))


@pytest.fixture(scope="module")
def unbalanced() -> tuple[Measured, ModelSpec]:
    model, spec = tiny_detector(activation="Relu")
    unbalance(model, 30.0)
    return measure(model, spec, pictures(6), QuantConfig(threads=1)), spec


def test_the_function_stays_and_the_channels_come_closer(unbalanced: tuple[Measured, ModelSpec]) -> None:
    measured, spec = unbalanced
    found = equalize(measured.model, measured.calibration.statistics)
    assert found is not None
    assert found.channels > 16
    assert found.spread > 4
    onnx.checker.check_model(found.model, full_check=True)
    for ours, theirs in zip(run(found.model, measured, spec), run(measured.model, measured, spec), strict=True):
        for name, expected in theirs.items():
            np.testing.assert_allclose(ours[name], expected, atol=1e-4 * np.abs(expected).max())
    after = measure(found.model, spec, pictures(6), QuantConfig(threads=1))
    for tensor in ("stem_act", "depthwise_act"):
        assert imbalance(after, tensor) < 0.5 * imbalance(measured, tensor)


def test_a_factor_is_the_root_of_the_channels_range_over_its_weight() -> None:
    """A depthwise reader has one weight channel per output, so that only ranges count: s = sqrt(x)."""
    model, spec = tiny_detector(activation="Relu")
    unbalance(model, 5.0)
    measured = measure(model, spec, pictures(4), QuantConfig(threads=1))
    found = equalize(measured.model, measured.calibration.statistics)
    assert found is not None
    old, new = (
        next(numpy_helper.to_array(t) for t in m.graph.initializer if t.name == _weight(m, "stem"))
        for m in (measured.model, found.model)
    )
    factors = np.abs(old).reshape(16, -1).sum(axis=1) / np.abs(new).reshape(16, -1).sum(axis=1)
    high = measured.calibration.statistics["stem_act"].channel_high
    np.testing.assert_allclose(factors, np.sqrt(high / high.max()), rtol=1e-4)


def test_a_smoothing_factor_weighs_the_weights_more() -> None:
    """With the same weights for all channels the factor is the fourth root of the channel's range."""
    model, spec = tiny_detector()
    unbalance(model, 10.0)
    measured = measure(model, spec, pictures(4), QuantConfig(threads=1))
    found = equalize(measured.model, measured.calibration.statistics, smooth=True)
    assert found is not None
    product = next(n for n in found.model.graph.node if n.op_type == "Mul" and n.input[0] == "stem_silu")
    stored = {t.name: numpy_helper.to_array(t) for t in found.model.graph.initializer}
    seen = measured.calibration.statistics["stem_silu"]
    reach = np.maximum(np.abs(seen.channel_low), np.abs(seen.channel_high))
    np.testing.assert_allclose(stored[product.input[1]].reshape(16), (reach / reach.max()) ** -0.25, rtol=1e-4)


def test_a_dead_channel_does_not_keep_the_others_from_it() -> None:
    model, spec = tiny_detector(activation="Relu")
    unbalance(model, 30.0)
    alive = np.ones((16, 1, 1, 1))
    alive[3] = 0.0
    _multiply(model, "stem_w", alive)
    _multiply(model, "stem_b", alive.reshape(16))
    before = measure(model, spec, pictures(6), QuantConfig(threads=1))
    assert before.calibration.statistics["stem_act"].channel_high[3] == 0
    found = equalize(before.model, before.calibration.statistics)
    assert found is not None
    after = measure(found.model, spec, pictures(6), QuantConfig(threads=1))
    assert imbalance(after, "stem_act") < 0.5 * imbalance(before, "stem_act")


def test_residuals_and_concatenations_share_their_factors(unbalanced: tuple[Measured, ModelSpec]) -> None:
    measured, spec = unbalanced
    found = equalize(measured.model, measured.calibration.statistics)
    assert found is not None
    weights = [constant(by_name(from_proto(m).graph)[_weight(m, "merge")]) for m in (measured.model, found.model)]
    assert weights[0] is not None
    assert weights[1] is not None
    factors = np.median(weights[1] / weights[0], axis=(2, 3))  # (outputs, inputs), equal up to the outputs' own
    factors /= factors[:, :1]
    old, new = (run(_showing(m, "joined"), measured, spec)[0]["joined"][0] for m in (measured.model, found.model))
    ratio = np.array(
        [o[o > 0].sum() / n[o > 0].sum() if (o > 0).any() else np.nan for o, n in zip(old, new, strict=True)]
    )
    alive = np.isfinite(ratio)
    np.testing.assert_allclose((factors[0] / factors[0][alive][0])[alive], (ratio / ratio[alive][0])[alive], rtol=1e-3)
    np.testing.assert_allclose(new[alive] * ratio[alive][:, None, None], old[alive], atol=1e-4 * np.abs(old).max())


def _weight(model: onnx.ModelProto, layer: str) -> str:
    return str(next(n for n in model.graph.node if n.output[0] == layer).input[1])


def _showing(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return shown


def test_eight_bits_hurt_less(unbalanced: tuple[Measured, ModelSpec]) -> None:
    measured, spec = unbalanced
    bench = Workbench(measured, spec, QuantConfig("openvino", threads=1, cpu="vnni"))
    assert bench.offers("equalized")
    reference = run(measured.model, measured, spec)

    def error(form: Form) -> float:
        found = run(bench.build(bench.plan(Recipe("minmax", form=form)), form), measured, spec)
        pairs = [(a[n] - b[n], b[n]) for a, b in zip(found, reference, strict=True) for n in b]
        return sum(float((d**2).sum()) for d, _ in pairs) / sum(float((e**2).sum()) for _, e in pairs)

    assert error("equalized") < 0.5 * error("plain")


def test_nothing_to_do_where_the_activation_is_not_homogeneous() -> None:
    model, spec = tiny_detector(activation="silu")
    measured = measure(model, spec, pictures(3), QuantConfig(threads=1))
    assert equalize(measured.model, measured.calibration.statistics) is None


def test_weights_that_layers_share_are_scaled_for_each_alone(unbalanced: tuple[Measured, ModelSpec]) -> None:
    measured, spec = unbalanced
    model = onnx.ModelProto()
    model.CopyFrom(measured.model)
    for node in model.graph.node:
        if node.output[0] == "residual":
            node.input[1] = "down_w"  # both 16 -> 16, 3x3
    shared = measure(model, spec, pictures(4), QuantConfig(threads=1))
    found = equalize(shared.model, shared.calibration.statistics)
    assert found is not None
    for ours, theirs in zip(run(found.model, shared, spec), run(shared.model, shared, spec), strict=True):
        for name, expected in theirs.items():
            np.testing.assert_allclose(ours[name], expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def unbalanced_silu() -> tuple[Measured, ModelSpec]:
    model, spec = tiny_detector()
    unbalance(model, 10.0)
    return measure(model, spec, pictures(6), QuantConfig(threads=1)), spec


def test_smoothed_behind_silu(unbalanced_silu: tuple[Measured, ModelSpec]) -> None:
    measured, spec = unbalanced_silu
    assert equalize(measured.model, measured.calibration.statistics) is None, "nothing is free without products"
    found = equalize(measured.model, measured.calibration.statistics, smooth=True)
    assert found is not None
    onnx.checker.check_model(found.model, full_check=True)
    products = [n for n in from_proto(found.model).graph if channel_factors(n) is not None]
    assert {n.inputs[0].name for n in products if n.inputs[0] is not None} >= {"stem_silu", "depthwise_silu"}
    for ours, theirs in zip(run(found.model, measured, spec), run(measured.model, measured, spec), strict=True):
        for name, expected in theirs.items():
            np.testing.assert_allclose(ours[name], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_smoothed_channels_lose_less(unbalanced_silu: tuple[Measured, ModelSpec], engine: EngineName) -> None:
    measured, spec = unbalanced_silu
    bench = Workbench(measured, spec, QuantConfig(engine, threads=1, cpu="vnni"))
    assert bench.offers("smoothed")
    reference = run(measured.model, measured, spec)

    def error(form: Form) -> float:
        found = run(bench.build(bench.plan(Recipe("mse", form=form)), form), measured, spec)
        return sum(float(((a[n] - b[n]) ** 2).sum()) for a, b in zip(found, reference, strict=True) for n in b)

    assert error("smoothed") < 0.7 * error("plain")
