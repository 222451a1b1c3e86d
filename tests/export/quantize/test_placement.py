"""Where each engine's file has its 8-bit grids, and that the numbers come out."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import onnx
import pytest

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.walks import nodes_of
from edgedet_export.quantize.apply_plan import apply_plan, quantize_weight
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.measure import Measured, measure
from edgedet_export.quantize.number_format import CpuKind, NumberFormat
from edgedet_export.quantize.plan import Grid
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.runner import onnx_runner
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_export.quantize.trials import Recipe, Workbench
from edgedet_runtime.engines import EngineName
from edgedet_runtime.spec import ModelSpec

from .tiny_detector import pictures, tiny_detector

# About 1 dB below what the worst output has; a bit less in all activations or all weights costs 3 to 6.
SIGNAL_TO_NOISE_DB = {
    ("onnxruntime", 127): 21.5,
    ("onnxruntime", 63): 20.0,
    ("openvino", 127): 27.0,
    ("openvino", 63): 23.0,
}

Prepared = tuple[Measured, ModelSpec]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    model, spec = tiny_detector()
    return measure(model, spec, pictures(4), QuantConfig(threads=1)), spec


def bench(prepared: Prepared, config: QuantConfig) -> Workbench:
    measured, spec = prepared
    return Workbench(measured, spec, config)


def counts(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


def test_openvino_quantizes_inputs_of_convolutions_only(prepared: Prepared) -> None:
    work = bench(prepared, QuantConfig("openvino", threads=1, cpu="vnni"))
    plan = work.plan(Recipe("mse"))
    model = work.build(plan)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.domain for entry in model.opset_import] == [""], "plain ONNX"
    assert [(k.layer, "depthwise" in k.reason) for k in plan.kept] == [("depthwise", True)]
    for node in nodes_of(from_proto(model).graph, "Conv"):
        makers = [value.producer() for value in node.inputs if value is not None]
        quantized = [m is not None and m.op_type == "DequantizeLinear" for m in makers]
        assert quantized == ([False] * 3 if node.outputs[0].name == "depthwise" else [True, True, False])
    # images, depthwise's output, pointwise's, pooled, joined, merge's: six tensors feed the eight INT8 layers
    assert counts(model)["QuantizeLinear"] == 6
    layers = {layer.id for layer in work.layers} - {"boxes", "objectness", "scores"}
    assert not layers & plan.grids.keys(), "a convolution's own output, before the activation, is not quantized"


def test_readers_see_what_is_quantized_unless_asked_otherwise(prepared: Prepared) -> None:
    plan = bench(prepared, QuantConfig("openvino", threads=1, cpu="vnni")).plan(Recipe("mse"))
    assert plan.everywhere == frozenset(plan.grids)


def test_openvino_float_residuals(prepared: Prepared) -> None:
    work = bench(prepared, QuantConfig("openvino", threads=1, cpu="vnni"))
    for tight in (True, False):
        values = by_name(from_proto(work.build(work.plan(Recipe("mse", float_residuals=tight)))).graph)
        readers = {n.op_type for n in values["pointwise_silu"].consumers()}
        assert readers == ({"QuantizeLinear", "Concat"} if tight else {"QuantizeLinear"})


def test_onnxruntime_quantizes_whole_stretches(prepared: Prepared) -> None:
    work = bench(prepared, QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    plan = work.plan(Recipe("mse"))
    model = work.build(plan)
    assert plan.kept == ()
    assert plan.integer_products == ("pointwise", "boxes", "objectness", "scores")
    assert "pointwise" not in plan.grids, "SiLU reads the floats of a 1x1 convolution"
    domains = [entry.domain for entry in model.opset_import]
    assert len(domains) == len(set(domains))
    found = counts(model)
    assert (found["Conv"], found["MatMulIntegerToFloat"]) == (5, 4)
    assert found["Resize"] == 0, "upsampling by two is done on the codes"
    assert plan.grids["joined"] == plan.grids["up"] == plan.grids["sum"]
    assert plan.grids["images_f"].is_byte
    assert not any(n.op_type == "QuantizeLinear" and n.input[0] == "images_f" for n in model.graph.node)


@pytest.mark.parametrize("cpu", ["vnni", "dotprod"])
def test_grids_before_silu_begin_at_minus_ten(cpu: CpuKind) -> None:
    """SiLU makes what lies lower 0: at -10 it is -0.00045. What another node reads as well keeps its range."""
    model, spec = tiny_detector()
    for tensor in model.graph.initializer:
        if tensor.name in ("stem_w", "down_w", "merge_w"):
            array = 8 * onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    model.graph.node.append(onnx.helper.make_node("Add", ["merge", "merge"], ["other"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    measured = measure(model, spec, pictures(3), QuantConfig(threads=1))
    work = bench((measured, spec), QuantConfig("onnxruntime", threads=1, cpu=cpu))
    plan = work.plan(Recipe("minmax"))
    lowest = {name: (-128 * grid.signed - grid.zero_point) * grid.scale for name, grid in plan.grids.items()}
    seen = {name: measured.calibration.statistics[name].low for name in lowest}
    assert max(seen["stem"], seen["down"], seen["merge"]) < -15, "the floor is what decides here"
    for name in ("stem", "down"):
        assert lowest[name] == pytest.approx(-10.0, abs=plan.grids[name].scale)
    assert lowest["merge"] == pytest.approx(seen["merge"], abs=plan.grids["merge"].scale)


def test_relu_is_replaced_by_the_grid() -> None:
    model, spec = tiny_detector(activation="Relu")
    measured = measure(model, spec, pictures(3), QuantConfig(threads=1))
    work = bench((measured, spec), QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    grids = work.plan(Recipe("mse")).grids
    assert "down" not in grids
    assert grids["down_act"].zero_point == 0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("cpu", ["vnni", "avx2", "dotprod"])
def test_outputs_stay_close_to_float(prepared: Prepared, engine: EngineName, cpu: CpuKind) -> None:
    work = bench(prepared, QuantConfig(engine, threads=1, cpu=cpu))
    plan = work.plan(Recipe("mse"))
    assert {g.signed for g in plan.grids.values()} == {cpu == "dotprod"}
    run = onnx_runner(work.build(plan), threads=1)
    fp32 = onnx_runner(to_proto(work.model), threads=1)
    for tensor in work.tensors:
        want, got = fp32(tensor), run(tensor)
        for name, reference in want.items():
            error = np.square(got[name] - reference).mean()
            assert (
                10 * np.log10(reference.var() / error) > SIGNAL_TO_NOISE_DB[engine, work.number_format.weight_limit]
            ), name


def test_kept_layers_stay_as_they_were(prepared: Prepared) -> None:
    work = bench(prepared, QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    everything = {layer.id: "asked" for layer in work.layers}
    plan = work.plan(Recipe("mse", keep=everything))
    model = work.build(plan)
    assert (plan.grids, work.share(plan), counts(model)["QuantizeLinear"]) == ({}, 0.0, 0)


@pytest.mark.parametrize("limit", [127, 63])
def test_weights_per_channel(limit: int) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)
    weight[1] *= 1e-4
    weight[2] = 0
    codes, scales = quantize_weight(weight, limit)
    assert np.abs(codes[[0, 1, 3, 4]]).reshape(4, -1).max(axis=1).tolist() == [limit] * 4
    assert not codes[2].any()
    np.testing.assert_allclose(codes * scales.reshape(-1, 1, 1, 1), weight, atol=float(scales.max()) / 2 * 1.001)
    np.testing.assert_allclose(codes[1] * scales[1], weight[1], atol=float(scales[1]) / 2 * 1.001)


def test_dead_channel_with_a_bias_does_not_overflow() -> None:
    model, spec = tiny_detector()
    for tensor in model.graph.initializer:
        if tensor.name == "merge_w":
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[3] = 1e-12
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    measured = measure(model, spec, pictures(2), QuantConfig(threads=1))
    work = bench((measured, spec), QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    quantized = to_proto(apply_plan(work.model, work.plan(Recipe("mse")), work.layers))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    bias = stored["merge/b/codes"] * stored["merge/b/scale"].astype(np.float64)
    original = next(t for t in model.graph.initializer if t.name == "merge_b")
    np.testing.assert_allclose(bias, onnx.numpy_helper.to_array(original), atol=2e-3)
    scales = stored["merge/w/scale"].reshape(-1, 1, 1, 1)
    weight = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "merge_w"))
    assert (np.abs(stored["merge/w/codes"] * scales - weight) <= scales / 2 * 1.001).all(), "the others keep theirs"
    assert np.abs(stored["merge/w/codes"][:3].astype(int)).reshape(3, -1).max(axis=1).tolist() == [127] * 3


@pytest.mark.parametrize(
    ("bounds", "activations", "grid"),
    [
        ((-1.0, 4.1), "uint8", Grid(float(np.float32(0.02)), 50, False)),
        ((-1.0, 4.1), "int8", Grid(float(np.float32(0.02)), -78, True)),
        ((0.0, 255.0), "uint8", Grid(1.0, 0, False)),
        ((-2.55, 0.0), "int8", Grid(float(np.float32(0.01)), 127, True)),
        ((0.0, 0.0), "uint8", Grid(float(np.float32(1e-12)), 0, False)),
    ],
)
def test_a_grid_spans_a_range(bounds: tuple[float, float], activations: Literal["uint8", "int8"], grid: Grid) -> None:
    found = Grid.spanning(bounds, NumberFormat(activations, 127))
    assert found.scale == pytest.approx(grid.scale, rel=1e-6)
    assert (found.zero_point, found.signed) == (grid.zero_point, grid.signed)
    assert found.is_byte is (bounds == (0.0, 255.0))


def test_sums_of_quantized_tensors_are_quantized_and_others_are_not(prepared: Prepared) -> None:
    """All that an addition, a product or a concatenation reads counts, not its first input alone."""
    model, spec = tiny_detector()
    for node in model.graph.node:
        if node.output[0] == "sum":
            node.input[:] = reversed(node.input)
    measured = measure(model, spec, pictures(2), QuantConfig(threads=1))
    work = bench((measured, spec), QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    assert {"sum", "residual_silu", "down_silu"} <= work.plan(Recipe("mse")).grids.keys()
    kept = work.plan(Recipe("mse", keep={layer.id: "x" for layer in work.layers if layer.id != "residual"}))
    assert sorted(kept.grids) == ["down_silu", "pooled", "residual"], "one term of the sum is quantized nowhere"


@pytest.mark.parametrize("cpu", ["vnni", "dotprod"])
def test_a_gate_spans_zero_to_one(cpu: CpuKind) -> None:
    model, spec = tiny_detector()
    total = next(node for node in model.graph.node if node.output[0] == "sum")
    total.op_type = "Mul"
    total.input[0] = "gate"
    place = list(model.graph.node).index(total)
    model.graph.node.insert(place, onnx.helper.make_node("Sigmoid", ["residual"], ["gate"]))
    measured = measure(model, spec, pictures(2), QuantConfig(threads=1))
    grids = bench((measured, spec), QuantConfig("onnxruntime", threads=1, cpu=cpu)).plan(Recipe("mse")).grids
    assert grids["gate"] == Grid(1 / 256, -128 * (cpu == "dotprod"), cpu == "dotprod")
    assert grids["residual"].scale != 1 / 256


def test_a_layer_without_a_bias_stays_without(prepared: Prepared) -> None:
    model, spec = tiny_detector()
    down = next(node for node in model.graph.node if node.output[0] == "down")
    del down.input[2]
    measured = measure(model, spec, pictures(2), QuantConfig(threads=1))
    work = bench((measured, spec), QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    plan = work.plan(Recipe("mse"))
    plain = to_proto(apply_plan(work.model, plan, work.layers))
    assert len(next(node for node in plain.graph.node if node.output[0] == "down").input) == 2
    corrected = work.build(plan)
    assert len(next(node for node in corrected.graph.node if node.output[0] == "down").input) == 3


def test_an_older_operator_set_is_raised_to_the_first_with_scales_per_channel() -> None:
    model, spec = tiny_detector()
    model.opset_import[0].version = 12
    next(node for node in model.graph.node if node.op_type == "Resize").input[1] = "roi"  # needed there
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(0, np.float32), "roi"))
    measured = measure(model, spec, pictures(2), QuantConfig(threads=1))
    work = bench((measured, spec), QuantConfig("openvino", threads=1, cpu="vnni"))
    built = work.build(work.plan(Recipe("mse")))
    assert built.opset_import[0].version == 13
    onnx.checker.check_model(built, full_check=True)


@pytest.mark.parametrize(("ratio", "shared"), [(1.0, True), (2.9, True), (3.1, False)])
def test_inputs_of_a_concat_share_a_grid_up_to_three_times_as_coarse(
    prepared: Prepared, ratio: float, shared: bool
) -> None:
    work = bench(prepared, QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    variant = work.variant("plain")
    made = {name: TensorStatistics() for name in variant.statistics}
    for name, statistics in made.items():
        statistics.update(np.array([[[-1.0, 1.0]]], np.float32) / (ratio if name == "pointwise_silu" else 1))
    plan = work.target.place(variant.graph, variant.layers, TensorRanges(made, "minmax"), work.number_format, {})
    assert plan.grids["joined"] == plan.grids["up"]
    assert (plan.grids["pointwise_silu"] == plan.grids["joined"]) is shared
    assert plan.grids["joined"].scale == pytest.approx(2 / 255)
