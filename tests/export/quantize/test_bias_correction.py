"""Bias correction restores the mean of a layer's output."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edgedet_export.graph.conversion import to_proto
from edgedet_export.quantize import QuantConfig, measure
from edgedet_export.quantize.apply_plan import apply_plan
from edgedet_export.quantize.bias_correction import ChannelMeans, corrected_biases
from edgedet_export.quantize.plan import Grid
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.trials import Recipe, Workbench

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
