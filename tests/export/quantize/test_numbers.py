"""The constants and formulas that every INT8 file stands on, each at its edge."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import NewTensors, set_outputs
from edgedet_export.quantize import number_format
from edgedet_export.quantize.agreement import detect
from edgedet_export.quantize.apply_plan import quantize_weight
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.integer_islands import repeat_factors, repeated_codes
from edgedet_export.quantize.layers import ConvLayer, find_layers
from edgedet_export.quantize.measure import measure
from edgedet_export.quantize.number_format import NUMBER_FORMATS, NumberFormat, this_cpu
from edgedet_export.quantize.plan import Grid
from edgedet_export.quantize.ranges import TensorStatistics, choose_range
from edgedet_export.quantize.sensitivity import QuantizedInput, channel_sqnr_db, distortion, rank_layers
from edgedet_export.quantize.trials import Recipe, Workbench
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

from .tiny_detector import pictures, tiny_detector

UNSIGNED, SIGNED = NumberFormat("uint8", 127), NumberFormat("int8", 127)


@pytest.mark.parametrize(
    ("low", "high", "step", "zero"),
    [
        (0.0, 255.0, 1.0, 0),
        (0.0, 1.0, 1 / 255, 0),
        (-255.0, 0.0, 1.0, 255),
        (-1.0, 1.0, 2 / 255, 127),
        (-10.0, 41.0, 0.2, 50),
        (0.0, 0.0, 1e-12, 0),
    ],
)
def test_256_codes_span_the_range(low: float, high: float, step: float, zero: int) -> None:
    """Code 0 is the low end and code 255 the high one, each within half a step."""
    grid = Grid.spanning((low, high), UNSIGNED)
    assert (grid.scale, grid.zero_point, grid.signed) == (float(np.float32(step)), zero, False)
    assert abs((255 - zero) * grid.scale - high) <= 0.51 * grid.scale or high == low
    assert abs((0 - zero) * grid.scale - low) <= 0.51 * grid.scale
    signed = Grid.spanning((low, high), SIGNED)
    assert (signed.scale, signed.zero_point, signed.signed) == (grid.scale, zero - 128, True)


def test_bytes_are_their_own_codes() -> None:
    assert Grid.exact_bytes(UNSIGNED) == Grid(1.0, 0, False)
    assert Grid.exact_bytes(SIGNED) == Grid(1.0, -128, True)
    assert Grid.exact_bytes(UNSIGNED).is_byte
    assert not any(g.is_byte for g in (Grid.exact_bytes(SIGNED), Grid(1.0, 1, False), Grid(0.5, 0, False)))


def pair_sums(activations: Sequence[int], weights: Sequence[int]) -> tuple[int, int]:
    """Return the sum of two products as AVX2's vpmaddubsw gives it, saturated to 16 bits, and as it is."""
    exact = sum(a * w for a, w in zip(activations, weights, strict=True))
    return int(np.clip(exact, -(2**15), 2**15 - 1)), exact


def test_weights_for_avx2_cannot_saturate_a_pair_of_products() -> None:
    limit = NUMBER_FORMATS["avx2"].weight_limit
    for a, b, v, w in itertools.product((0, 1, 254, 255), (0, 1, 254, 255), (-limit, limit), (-limit, limit)):
        saturated, exact = pair_sums((a, b), (v, w))
        assert saturated == exact
    saturated, exact = pair_sums((255, 255), (127, 127))
    assert saturated < exact, "full-range weights would"
    assert 32 <= limit <= 2**6 - 1, "one bit less than int8's, not more"
    assert {kind: f.weight_limit for kind, f in NUMBER_FORMATS.items() if kind != "avx2"} == {
        "vnni": 127, "dotprod": 127, "neon": 127,
    }  # fmt: skip
    assert {kind: f.activations for kind, f in NUMBER_FORMATS.items()} == {
        "vnni": "uint8", "avx2": "uint8", "dotprod": "int8", "neon": "int8",
    }  # fmt: skip


@pytest.mark.parametrize(("cpu", "limit"), [("avx2", 63), ("vnni", 127)])
def test_written_weights_reach_their_limit_and_do_not_exceed_it(cpu: Any, limit: int) -> None:
    model, spec = tiny_detector()
    work = Workbench(
        measure(model, spec, pictures(2), QuantConfig(threads=1)), spec, QuantConfig("onnxruntime", threads=1, cpu=cpu)
    )
    built = work.build(work.plan(Recipe("minmax")))
    codes = {t.name: numpy_helper.to_array(t) for t in built.graph.initializer if t.name.endswith("/w/codes")}
    assert len(codes) == len(work.layers)
    assert {int(np.abs(c.astype(np.int32)).max()) for c in codes.values()} == {limit}


@pytest.mark.parametrize(
    ("machine", "features", "kind"),
    [
        ("x86_64", ("avx2", "vnni"), "vnni"),
        ("x86_64", ("avx2",), "avx2"),
        ("AMD64", (), "avx2"),
        ("aarch64", ("dotprod", "neon"), "dotprod"),
        ("arm64", ("neon",), "neon"),
        ("armv7l", ("neon",), "neon"),
        ("armv8l", ("dotprod",), "dotprod"),
    ],
)
def test_kinds_of_cpus(machine: str, features: tuple[str, ...], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(number_format, "cpu_features", lambda: features)
    assert this_cpu() == kind


def test_percentile_leaves_out_one_in_200_000_on_each_side() -> None:
    """Of a million elements four lie far out on each side, and four less far: the first four are left out."""
    centers = np.array([-100.0, -50.0, 0.5, 50.0, 100.0])
    counts = np.array([4.0, 4.0, 999_984.0, 4.0, 4.0])
    assert choose_range("percentile", (-101.0, 101.0), centers, counts) == (-50.0, 50.0)
    few = np.array([6.0, 4.0, 999_980.0, 4.0, 6.0])
    assert choose_range("percentile", (-101.0, 101.0), centers, few) == (-100.0, 100.0)
    assert choose_range("percentile", (2.0, 101.0), centers[2:], counts[2:]) == (0.0, 50.0)
    assert choose_range("minmax", (-101.0, 101.0), centers, counts) == (-101.0, 101.0)
    assert choose_range("percentile", (0.0, 0.0), np.zeros(1), np.ones(1)) == (0.0, 0.0)


def test_channels_of_several_pictures_at_once() -> None:
    """Batches are pictures: a channel's extremes and power are taken over all of them."""
    found = TensorStatistics()
    array = np.zeros((2, 3, 2, 2), np.float32)
    array[0, 0], array[1, 0] = 1.0, -3.0
    array[0, 1, 0, 0] = 8.0
    array[1, 2] = 5.0
    found.update(array)
    assert found.channel_low.tolist() == [-3.0, 0.0, 0.0]
    assert found.channel_high.tolist() == [1.0, 8.0, 5.0]
    assert found.channel_power.tolist() == [5.0, 8.0, 12.5]
    assert (found.low, found.high, found.count) == (-3.0, 8.0, 24)
    found.update(np.full((1, 3, 4, 4), -1.0, np.float32))
    assert found.channel_low.tolist() == [-3.0, -1.0, -1.0]
    assert found.channel_power.tolist() == [(5 * 8 + 16) / 24, (8 * 8 + 16) / 24, (12.5 * 8 + 16) / 24]


def test_what_silu_makes_zero_is_not_resolved() -> None:
    model, spec = tiny_detector()
    for tensor in model.graph.initializer:
        if tensor.name == "stem_w":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(12), tensor.name))
    measured = measure(model, spec, pictures(3), QuantConfig(threads=1))
    assert measured.calibration.statistics["stem"].low < -15
    work = Workbench(measured, spec, QuantConfig("onnxruntime", threads=1, cpu="vnni"))
    grid = work.plan(Recipe("minmax")).grids["stem"]
    assert grid.scale * grid.zero_point == pytest.approx(10.0, abs=grid.scale / 2)
    sound = abs(-10.0 / (1 + np.exp(10.0)))
    assert sound < 5e-4, "SiLU at -10: below a step of any grid behind it"


def resize(before: Sequence[int | str], after: Sequence[int | str], **attributes: str) -> ir.Node:
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], name="y", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(before))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(after))],
        [numpy_helper.from_array(np.array([1, 1, 1, 1], np.int64), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return next(iter(from_proto(model).graph))


FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CENTER = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}
SMALL = (1, 8, 5, 6)


@pytest.mark.parametrize(
    ("before", "after", "attributes", "factors"),
    [
        (SMALL, (1, 8, 10, 12), FLOOR, (2, 2)),
        (SMALL, (1, 8, 5, 24), FLOOR, (1, 4)),
        (SMALL, (1, 8, 20, 18), FLOOR, (4, 3)),
        (SMALL, (1, 8, 25, 6), FLOOR, None),
        (SMALL, (1, 8, 5, 30), FLOOR, None),
        (SMALL, (1, 8, 15, 12), CENTER, (3, 2)),
        (SMALL, (1, 8, 20, 12), CENTER, None),
        (SMALL, (1, 8, 10, 12), {**CENTER, "nearest_mode": "round_prefer_ceil"}, (2, 2)),
        (SMALL, (1, 8, 10, 12), {}, (2, 2)),
        (SMALL, (1, 8, 10, 12), {**FLOOR, "mode": "linear"}, None),
        (SMALL, (1, 8, 10, 12), {**FLOOR, "nearest_mode": "ceil"}, None),
        (SMALL, (1, 8, 10, 12), {**CENTER, "coordinate_transformation_mode": "align_corners"}, None),
        (SMALL, (1, 8, 7, 12), FLOOR, None),
        (SMALL, (1, 8, 10, 9), FLOOR, None),
        (SMALL, (1, 9, 10, 12), FLOOR, None),
        ((2, 8, 5, 6), (2, 8, 10, 12), FLOOR, None),
        (("n", 8, 5, 6), ("n", 8, 10, 12), FLOOR, None),
        ((1, 8, "h", 6), (1, 8, 10, 12), FLOOR, None),
        (SMALL, (1, 8, 10, "w"), FLOOR, None),
        ((8, 5, 6), (8, 10, 12), FLOOR, None),
    ],
)
def test_upsampling_that_repeats_cells(
    before: Any, after: Any, attributes: dict[str, str], factors: tuple[int, int] | None
) -> None:
    node = resize(before, after, **attributes)
    assert repeat_factors(node) == factors
    assert repeat_factors(None) is None
    node.op_type = "Upsample"
    assert repeat_factors(node) is None


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (3, 1), (1, 4), (2, 3)])
def test_repeated_codes(factors: tuple[int, int]) -> None:
    ort = pytest.importorskip("onnxruntime")
    given, made = ir.val("codes", ir.DataType.UINT8, SMALL), ir.val("out", ir.DataType.UINT8)
    graph = ir.Graph([given], [], nodes=[], opset_imports={"": 13}, name="g")
    graph.extend(repeated_codes(NewTensors(graph), given, SMALL, factors, made))
    set_outputs(graph, [made])
    model = ir.Model(graph, ir_version=8)
    session = ort.InferenceSession(to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    codes = np.random.default_rng(0).integers(0, 256, SMALL).astype(np.uint8)
    (out,) = session.run(None, {"codes": codes})
    np.testing.assert_array_equal(out, codes.repeat(factors[0], 2).repeat(factors[1], 3))


def one_level(anchors: int) -> ModelSpec:
    pairs = tuple((8.0, 8.0) for _ in range(anchors))
    level = LevelSpec(8, "boxes", "scores", "objectness", anchors_px=pairs)
    return ModelSpec(
        "custom", "x", InputSpec("images", 16, 16), ResizeSpec(), DecodeSpec("anchors", (level,)), ("a", "b")
    )


def logit(p: npt.ArrayLike) -> npt.NDArray[np.float32]:
    p = np.asarray(p, np.float64)
    return np.asarray(np.log(p / (1 - p)), np.float32)


def test_distortion_of_known_outputs() -> None:
    """Two anchors, two classes, one row of two cells; boxes of two numbers: every term by hand."""
    spec = one_level(2)
    objectness = logit([[[[0.5, 0.5]], [[0.5, 0.5]]]]).reshape(1, 2, 1, 2)
    scores = logit([0.8, 0.4, 0.2, 0.6, 0.4, 0.4, 0.8, 0.2]).reshape(1, 4, 1, 2)
    boxes = np.zeros((1, 4, 1, 2), np.float32)
    reference = {"objectness": objectness, "scores": scores, "boxes": boxes}
    assert distortion(reference, reference, spec) == 0
    moved = {**reference, "boxes": boxes + np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1)}
    # confidence: 0.40 0.20 | 0.10 0.30 and 0.20 0.20 | 0.40 0.10; the best of each cell: 0.40 0.30 and 0.40 0.20
    weighted = 0.7 * (1 + 2) / 2 + 0.6 * (3 + 4) / 2
    assert distortion(reference, moved, spec) == pytest.approx(weighted / 1.3, rel=1e-5)
    other = {**reference, "scores": logit([0.6, 0.4, 0.2, 0.6, 0.4, 0.4, 0.9, 0.2]).reshape(1, 4, 1, 2)}
    assert distortion(reference, other, spec) == pytest.approx((0.1 + 0.05) / 1.9, rel=1e-5)


def test_description_of_a_layer() -> None:
    found = TensorStatistics()
    array = np.zeros((1, 4, 2, 2), np.float32)
    array[0, 0], array[0, 1], array[0, 2, 0, 0] = 10.0, 0.1, -4.0
    found.update(array)
    grid = Grid(0.5, 0, False)
    layer = ConvLayer("c", "Conv", "x", "w", None, (1, 4, 1, 1), 1, 1234, False, True)
    db = channel_sqnr_db(found, grid)
    noise = 0.25 / 12
    assert db.tolist() == pytest.approx([10 * np.log10(p / noise) for p in (100.0, 0.01, 4.0)] + [np.inf], rel=1e-6)
    (row,) = rank_layers([QuantizedInput(layer, grid, found)], lambda _: 0.25, lambda _: None)
    assert (row.layer, row.effect, row.macs, row.low, row.high) == ("c", 0.25, 1234, -4.0, 10.0)
    assert row.sqnr_db == pytest.approx(10 * np.log10((100 + 0.01 + 4) / 4 / noise))
    assert row.worst_channel_db == pytest.approx(10 * np.log10(0.01 / noise))
    assert row.poor_channels == pytest.approx(1 / 3), "of those that carry a signal, below 10 dB"
    assert row.outlier_ratio == pytest.approx(4.0 / 1e-12)  # one channel spans 4, the others nothing


def test_description_of_a_layer_without_a_signal() -> None:
    found = TensorStatistics()
    found.update(np.zeros((1, 2, 2, 2), np.float32))
    layer = ConvLayer("c", "Conv", "x", "w", None, (1, 2, 1, 1), 1, 1, False, True)
    (row,) = rank_layers([QuantizedInput(layer, Grid(0.5, 0, False), found)], lambda _: 0.0, lambda _: None)
    assert row.sqnr_db == row.worst_channel_db == pytest.approx(10 * np.log10(1e-30 / (0.25 / 12)))
    assert (row.poor_channels, row.outlier_ratio) == (0.0, 0.0)


def test_ranking_by_harm_keeps_the_order_of_equals() -> None:
    found = TensorStatistics()
    found.update(np.ones((1, 2, 2, 2), np.float32))
    effects = {"a": 1.0, "b": 3.0, "c": 1.0, "d": 2.0}
    inputs = [
        QuantizedInput(ConvLayer(n, "Conv", "x", "w", None, (1, 2, 1, 1), 1, 1, False, True), Grid(1, 0, False), found)
        for n in effects
    ]
    said: list[str] = []
    assert [r.layer for r in rank_layers(inputs, lambda layer: effects[layer.id], said.append)] == list("bdac")
    assert said[0] == "measuring single layers, 1 of 4"
    assert len(said) == 4


def test_a_recipe_is_plain_unless_it_says_so() -> None:
    recipe = Recipe("mse")
    assert (recipe.form, recipe.float_residuals, dict(recipe.keep)) == ("plain", False, {})


def test_a_layer_whose_size_is_unknown_is_refused() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="y")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "h", "w"])],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(ModelFileError, match="INT8: the size of y is not known"):
        find_layers(from_proto(model).graph)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelFileError, match="INT8: the size of y is not known"):
        find_layers(from_proto(model).graph)


def test_weights_by_output_channel() -> None:
    weight = np.array([[[[1.0]], [[-2.0]]], [[[0.25]], [[0.125]]], [[[0.0]], [[0.0]]]], np.float32)
    codes, scales = quantize_weight(weight, 127)
    assert codes.reshape(3, 2).tolist() == [[64, -127], [127, 64], [0, 0]]
    assert scales[:2].tolist() == [float(np.float32(2 / 127)), float(np.float32(0.25 / 127))]


@pytest.mark.parametrize(
    ("shape", "attributes", "pointwise"),
    [
        ((2, 3, 1, 1), {}, True),
        ((2, 3, 3, 1), {}, False),
        ((2, 3, 1, 3), {}, False),
        ((2, 3, 1, 1), {"strides": [1, 2]}, False),
        ((2, 3, 1, 1), {"strides": [2, 2]}, False),
        ((2, 3, 1, 1), {"pads": [0, 0, 0, 1]}, False),
        ((2, 1, 1, 1), {"group": 3}, False),
        ((2, 3, 1, 1), {"auto_pad": "SAME_UPPER"}, False),
    ],
)
def test_what_a_matrix_product_can_compute(shape: tuple[int, ...], attributes: dict[str, Any], pointwise: bool) -> None:
    if "group" in attributes:
        shape = (3, *shape[1:])
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="y", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, shape[0], 5, 7])],
        [numpy_helper.from_array(np.ones(shape, np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (layer,) = find_layers(from_proto(model).graph)
    assert layer.is_pointwise is pointwise
    assert layer.is_depthwise is ("group" in attributes)
    assert layer.macs == int(np.prod(shape)) * 35
    assert (layer.is_head, layer.bias, layer.data, layer.weight) == (True, None, "x", "w")


def test_a_hundred_detections_are_judged() -> None:
    """As many as COCO's average precision looks at."""
    level = LevelSpec(8, "boxes", "scores", "objectness")
    spec = ModelSpec(
        "custom", "x", InputSpec("images", 96, 128), ResizeSpec(), DecodeSpec("points-exp", (level,)), ("a",)
    )
    outputs = {
        "boxes": np.full((1, 4, 12, 16), -3.0, np.float32),
        "objectness": np.full((1, 1, 12, 16), 2.0, np.float32),
        "scores": np.full((1, 1, 12, 16), 2.0, np.float32),
    }
    assert len(detect(outputs, spec)) == 100


def test_what_is_judged_begins_at_a_score_of_0_005_and_is_suppressed_by_class() -> None:
    """Two cells of one place, of two classes, and a third that is all but empty."""
    spec = ModelSpec(
        "custom",
        "x",
        InputSpec("images", 16, 24),
        ResizeSpec(),
        DecodeSpec("points-exp", (LevelSpec(8, "boxes", "scores"),), score="cls"),
        ("a", "b"),
    )
    for least, found in ((0.0055, 3), (0.0045, 2)):
        scores = np.full((1, 2, 2, 3), 0.001)
        scores[0, 0, 0, 0], scores[0, 1, 0, 1], scores[0, 0, 1, 2] = 0.9, 0.8, least
        boxes = np.zeros((1, 4, 2, 3), np.float32)
        boxes[:, 2:] = 3.0  # 160 px wide: those of neighboring cells overlap almost wholly
        outputs = {"boxes": boxes, "scores": logit(scores)}
        kept = detect(outputs, spec)
        assert sorted(kept.class_ids.tolist()) == [0, 1], "the third lies under the first, which is of its class"
        assert len(detect(outputs, spec, conf=0.85)) == 1
        boxes[0, 2:, 1, 2] = -1.0
        assert len(detect(outputs, spec)) == found
