"""Bias correction restores the mean of a layer's output."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edgedet_export.graph.conversion import to_proto
from edgedet_export.quantize import QuantConfig, measure
from edgedet_export.quantize.apply_plan import apply_plan, quantize_weight
from edgedet_export.quantize.bias_correction import ChannelMeans, corrected_biases
from edgedet_export.quantize.layers import find_layers
from edgedet_export.quantize.number_format import NumberFormat
from edgedet_export.quantize.plan import Grid, QuantPlan
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.trials import Recipe, Workbench

from .small_graphs import draw, small_model
from .tiny_detector import pictures, tiny_detector


@pytest.fixture(scope="module")
def work() -> Workbench:
    model, spec = tiny_detector()
    measured = measure(model, spec, pictures(4), QuantConfig(threads=1))
    config = QuantConfig("openvino", threads=1, cpu="vnni")
    return Workbench(measured, spec, config)


def test_means_on_a_coarse_grid(work: Workbench) -> None:
    means = ChannelMeans(work.model, work.layers, work.tensors, threads=1)
    exact, rounded = means.measure({"joined": Grid(100.0, 0, False)})["joined"]
    assert exact.shape == (32,)
    np.testing.assert_array_equal(rounded, 0)
    fine = means.measure({"joined": Grid(1e-3, 128, False)})["joined"][1]
    assert np.abs(fine - exact).max() < np.abs(exact).max()


def test_mean_of_a_pointwise_layer_is_restored_exactly(work: Workbench) -> None:
    plan = work.plan(
        Recipe("mse", float_residuals=True, keep={la.id: "x" for la in work.layers if la.id != "pointwise"})
    )
    grids = {"depthwise_silu": Grid(plan.grids["depthwise_silu"].scale * 16, 7, False)}  # coarse: a large shift
    plan = dataclasses.replace(plan, grids=grids)
    biases = corrected_biases(
        work.graph, work.layers, plan, ChannelMeans(work.model, work.layers, work.tensors, threads=1)
    )
    errors = []
    for given in ({}, biases):
        model = apply_plan(work.model, plan, work.layers, given)
        want, got = (_means(to_proto(m), work) for m in (work.model, model))
        errors.append(np.abs(got - want).max())
    assert errors[1] < 1e-3
    assert errors[0] > 20 * errors[1]


def _means(model: onnx.ModelProto, work: Workbench) -> npt.NDArray[np.float32]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.ValueInfoProto(name="pointwise"))
    run = onnx_runner(probe, threads=1, optimize=False)
    found = np.mean([run(t)["pointwise"].mean(axis=(0, 2, 3)) for t in work.tensors], axis=0)
    return np.asarray(found, np.float32)


@pytest.mark.parametrize(
    "grid", [Grid(0.5, 3, False), Grid(0.5, -125, True), Grid(0.01, 250, False), Grid(0.01, -128, True)]
)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_the_correction_to_the_number(grid: Grid, groups: int, bias: bool) -> None:
    """Two batches; the convolution's input is an output of the graph as well, and half of it lies off the grid."""
    end = ", b" if bias else ""
    model = small_model(
        f"(float[2,4,5,6] x) => (float[] p, float[] y) {{ p = Neg(x) y = Conv<group={groups}>(p, w{end}) }}",
        w=(6, 4 // groups, 2, 3), b=(6,),
    )  # fmt: skip
    layers = find_layers(model.graph)
    tensors = [draw(name, (2, 4, 5, 6)) for name in ("one", "two", "three")]
    plan = QuantPlan(
        {"p": grid, "q": grid},
        frozenset(),
        ("y",),
        (),
        (),
        NumberFormat("uint8", 63),
        "float32",
        copied_upsampling=False,
    )
    means = ChannelMeans(model, layers, tensors, threads=1)
    for _ in range(2):  # the second time from memory
        (found,) = corrected_biases(model.graph, layers, plan, means).values()
    p = -np.stack(tensors).astype(np.float64)
    low = -128 if grid.signed else 0
    on_grid = (
        np.clip(np.round(p / np.float32(grid.scale)) + grid.zero_point, low, low + 255) - grid.zero_point
    ) * grid.scale
    weight = draw("w", (6, 4 // groups, 2, 3))
    codes, scales = quantize_weight(weight, 63)
    stored = codes * scales.reshape(6, 1, 1, 1).astype(np.float64)
    expected = np.zeros(6)
    for o in range(6):
        for i in range(4 // groups):
            channel = o // (6 // groups) * (4 // groups) + i
            expected[o] += weight[o, i].sum(dtype=np.float64) * p[:, :, channel].mean()
            expected[o] -= stored[o, i].sum() * on_grid[:, :, channel].mean()
    np.testing.assert_allclose(found, expected + (draw("b", (6,)) if bias else 0), rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32
    assert corrected_biases(model.graph, layers, dataclasses.replace(plan, layers=()), means) == {}
    exact, rounded = means.measure({"p": grid, "z": grid})["p"]
    np.testing.assert_allclose(exact, p.mean(axis=(0, 1, 3, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rounded, on_grid.mean(axis=(0, 1, 3, 4)), rtol=1e-5, atol=1e-5)
