"""What a plan writes: the codes, the scales, and who reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from edgedet_export.graph.conversion import to_proto
from edgedet_export.graph.edits import by_name
from edgedet_export.graph.values import constant, dims, elem_type
from edgedet_export.onnx_passes import RequirementError
from edgedet_export.quantize.apply_plan import WritePlan, apply_plan, quantize_weight
from edgedet_export.quantize.layers import find_layers
from edgedet_export.quantize.number_format import NumberFormat
from edgedet_export.quantize.plan import BiasForm, Grid, KeptFloat, QuantPlan
from edgedet_export.quantize.runner import onnx_runner

from .small_graphs import checked, draw, small_model

UNSIGNED = Grid(0.0625, 100, False)
SIGNED = Grid(0.0625, -28, True)
X = draw("x", (1, 4, 6, 6))


def plan_of(
    grids: dict[str, Grid],
    layers: tuple[str, ...],
    *,
    everywhere: Collection[str] | None = None,
    products: tuple[str, ...] = (),
    limit: int = 127,
    bias: BiasForm = "int32",
    copied: bool = True,
) -> QuantPlan:
    inside = frozenset(grids if everywhere is None else everywhere)
    numbers = NumberFormat("int8" if any(g.signed for g in grids.values()) else "uint8", limit)
    return QuantPlan(grids, inside, layers, products, (KeptFloat("z", "asked", 3),), numbers, bias, copied)


def write(model: ir.Model, plan: QuantPlan, biases: dict[str, npt.NDArray[np.float32]] | None = None) -> ir.Model:
    written = apply_plan(model, plan, find_layers(model.graph), biases)
    onnx_model = to_proto(written)
    if not plan.integer_products:
        checked(onnx_model)
    return written


def run(model: ir.Model, x: npt.NDArray[Any] = X) -> dict[str, npt.NDArray[np.float32]]:
    return onnx_runner(to_proto(model), threads=1, optimize=False)(x)


def numbers(model: ir.Model, name: str) -> npt.NDArray[Any]:
    found = constant(by_name(model.graph)[name])
    assert found is not None
    return found


def on_grid(x: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.float64]:
    low = -128 if grid.signed else 0
    codes = np.clip(np.round(x / grid.scale) + grid.zero_point, low, low + 255)
    return np.asarray((codes - grid.zero_point) * grid.scale, np.float64)


def mixed(
    x: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], bias: npt.NDArray[np.float64] | float = 0.0
) -> Any:
    """Return a 1x1 convolution."""
    return np.einsum("oi,nihw->nohw", weight.reshape(len(weight), -1), x) + np.reshape(bias, (-1, 1, 1))


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


LAYER = "(float[1,4,6,6] x) => (float[] y) { p = Identity(x) y = Conv(p, w, b) }"


def layer(**more: Any) -> ir.Model:
    return small_model(LAYER, **{"w": (3, 4, 1, 1), "b": (3,), **more})


def test_scales_and_codes_of_weights() -> None:
    weight = np.array([[0.5, -1.27], [0.0, 0.0], [1e-14, 0.0], [0.635, 0.005]], np.float32)
    codes, scales = quantize_weight(weight, 127)
    assert scales.tolist() == pytest.approx([0.01, 1e-12, 1e-12, 0.005], rel=1e-6)
    assert codes.tolist() == [[50, -127], [0, 0], [0, 0], [127, 1]]
    assert (codes.dtype.name, scales.dtype.name) == ("int8", "float32")
    coarse, scales = quantize_weight(weight, 127, least=np.array([0.02, 1e-14, 0.0, 0.001]))
    assert scales.tolist() == pytest.approx([0.02, 1e-12, 1e-12, 0.005], rel=1e-6)
    assert coarse.tolist() == [[25, -64], [0, 0], [0, 0], [127, 1]]
    assert quantize_weight(weight, 63)[0].tolist()[0] == [25, -63]


@pytest.mark.parametrize("grid", [UNSIGNED, SIGNED], ids=["uint8", "int8"])
@pytest.mark.parametrize("bias", ["int32", "float32"])
def test_a_layer_multiplies_codes(grid: Grid, bias: BiasForm) -> None:
    model = layer()
    written = write(model, plan_of({"p": grid}, ("y",), bias=bias))
    codes, scales = quantize_weight(numbers(model, "w"), 127)
    np.testing.assert_array_equal(numbers(written, "y/w/codes"), codes)
    np.testing.assert_array_equal(numbers(written, "y/w/scale"), scales)
    assert numbers(written, "y/w/zero").tolist() == [0, 0, 0]
    assert numbers(written, "p/q/zero").item() == grid.zero_point
    assert numbers(written, "p/q/zero").dtype == (np.int8 if grid.signed else np.uint8)
    assert numbers(written, "p/q/scale").item() == 0.0625
    if bias == "int32":
        steps = scales * np.float32(0.0625)
        np.testing.assert_array_equal(numbers(written, "y/b/scale"), steps)
        np.testing.assert_array_equal(numbers(written, "y/b/codes"), np.round(numbers(model, "b") / steps))
        assert numbers(written, "y/b/zero").tolist() == [0, 0, 0]
        assert numbers(written, "y/b/codes").dtype == np.int32
    else:
        np.testing.assert_array_equal(numbers(written, "y/b"), numbers(model, "b"))
    assert kinds(written)["DequantizeLinear"] == (3 if bias == "int32" else 2)
    stored = codes.astype(np.float64) * scales.reshape(-1, 1, 1, 1)
    expected = mixed(on_grid(X, grid), stored, numbers(model, "b").astype(np.float64))
    np.testing.assert_allclose(run(written)["y"], expected, atol=2e-3 if bias == "int32" else 1e-5)
    assert "w" not in written.graph.initializers
    assert "w" in model.graph.initializers, "the model that was given stays as it is"


def test_biases_that_are_given_replace_the_models() -> None:
    given = np.array([1.0, -2.0, 3.0], np.float32)
    for model in (layer(), small_model(LAYER.replace(", b", ""), w=(3, 4, 1, 1))):
        written = write(model, plan_of({"p": UNSIGNED}, ("y",), bias="float32"), {"y": given, "other": given})
        assert numbers(written, "y/b").tolist() == [1, -2, 3]
    written = write(layer(), plan_of({"p": UNSIGNED}, ("y",), bias="float32"), {"other": given})
    np.testing.assert_array_equal(numbers(written, "y/b"), draw("b", (3,)))


@pytest.mark.parametrize("bias", ["int32", "float32"])
def test_a_dead_channel_beside_a_bias(bias: BiasForm) -> None:
    """Its bias would need more than 32 bits on the grid of its weights, which must become coarser; floats need not."""
    weight = draw("w", (3, 4, 1, 1))
    weight[1] = 1e-9
    written = write(
        layer(w=weight, b=np.array([1.0, -5.0, 2.0], np.float32)), plan_of({"p": UNSIGNED}, ("y",), bias=bias)
    )
    scales = numbers(written, "y/w/scale")
    own = quantize_weight(weight, 127)[1]
    assert (scales[0], scales[2]) == (own[0], own[2])
    if bias == "int32":
        assert numbers(written, "y/b/codes")[1] == pytest.approx(-(2**30), rel=1e-6)
        assert scales[1] == pytest.approx(5 / 2**30 / 0.0625, rel=1e-6)
    else:
        assert scales[1] == own[1]
        assert numbers(written, "y/b").tolist() == [1, -5, 2]


def test_a_layer_without_a_bias_gets_none() -> None:
    for bias in get_args(BiasForm):
        model = small_model(LAYER.replace(", b", ""), w=(3, 4, 1, 1))
        written = write(model, plan_of({"p": UNSIGNED}, ("y",), bias=bias))
        (conv,) = (node for node in written.graph if node.op_type == "Conv")
        assert len(conv.inputs) == 2


@pytest.mark.parametrize("everywhere", [True, False])
def test_other_readers_see_the_grid_or_the_floats(everywhere: bool) -> None:
    model = small_model(
        "(float[1,4,6,6] x) => (float[] y, float[] z) { p = Identity(x) y = Conv(p, w) z = Neg(p) }", w=(3, 4, 1, 1)
    )
    written = write(model, plan_of({"p": UNSIGNED}, ("y",), everywhere=("p",) if everywhere else ()))
    expected = on_grid(X, UNSIGNED) if everywhere else X
    np.testing.assert_allclose(run(written)["z"], -expected, atol=1e-6)
    assert not np.allclose(on_grid(X, UNSIGNED), X, atol=1e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("grid", [UNSIGNED, SIGNED], ids=["uint8", "int8"])
def test_integer_products_have_float_outputs(bias: bool, grid: Grid) -> None:
    end = ", b" if bias else ""
    model = small_model(
        f"(float[1,4,6,6] x) => (float[] y, float[] z) {{ p = Identity(x) y = Conv(p, w{end}) z = Conv(p, v) }}",
        w=(3, 4, 1, 1), v=(2, 4, 1, 1), b=(3,),
    )  # fmt: skip
    written = write(model, plan_of({"p": grid}, ("y", "z"), products=("y", "z")))
    assert kinds(written) == {
        "Identity": 1, "QuantizeLinear": 1, "Transpose": 3, "MatMulIntegerToFloat": 2,
    }, "one tensor is moved once for both, and nobody reads its values"  # fmt: skip
    found = run(written)
    for name, weight, offset in (("y", "w", draw("b", (3,)) if bias else 0.0), ("z", "v", 0.0)):
        codes, scales = quantize_weight(numbers(model, weight), 127)
        stored = codes.astype(np.float64) * scales.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(found[name], mixed(on_grid(X, grid), stored, np.asarray(offset)), atol=1e-4)
        value = by_name(written.graph)[name]
        assert (dims(value), elem_type(value)) == ((1, len(codes), 6, 6), ir.DataType.FLOAT)
    assert [value.name for value in written.graph.outputs] == ["y", "z"]


def test_operator_sets_and_the_file_format_are_raised_where_needed() -> None:
    def written(opset: int, ir_version: int, *, domain: str = "", product: bool = False) -> ir.Model:
        model = layer()
        model.graph.opset_imports.clear()
        model.graph.opset_imports[domain] = opset
        model.ir_version = ir_version
        plan = plan_of({"p": UNSIGNED}, ("y",), products=("y",) if product else ())
        return WritePlan(plan, find_layers(model.graph))(model).model

    for before, after in ((9, 13), (13, 13), (17, 17)):
        assert written(before, 8).graph.opset_imports == {"": after}
        assert written(before, 8, domain="ai.onnx").graph.opset_imports == {"ai.onnx": after}
    assert written(13, 8, product=True).graph.opset_imports == {"": 13, "com.microsoft": 1}
    assert [written(13, version).ir_version for version in (4, 7, 9)] == [7, 7, 9]


def test_a_plan_of_another_model_is_refused() -> None:
    model = layer()
    for plan in (plan_of({"p": UNSIGNED, "q": UNSIGNED}, ("y",)), plan_of({"p": UNSIGNED}, ("y", "q"))):
        with pytest.raises(RequirementError, match="expected tensor q in the model, got none"):
            WritePlan(plan, find_layers(model.graph))(model)


def test_the_report_names_what_runs_in_int8_and_what_does_not() -> None:
    model = layer()
    report = WritePlan(plan_of({"p": UNSIGNED}, ("y",)), find_layers(model.graph))(model).report
    assert [(c.path, c.what) for c in report.changed] == [("y", "float32 → INT8")]
    assert [(d.path, d.why) for d in report.declined] == [("z", "asked")]


BYTES = (
    "(uint8[1,6,6,4] x) => (float[] y, float[] z)"
    "{ f = Cast<to=1>(x) p = Transpose<perm=[0,3,1,2]>(f) y = Conv(p, w) z = Neg(f) }"
)
IMAGE = np.random.default_rng(2).integers(0, 256, (1, 6, 6, 4)).astype(np.uint8)


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_bytes_are_codes_already(step: float) -> None:
    """The cast needs no quantization; what moves its numbers does, unless that reads codes as well."""
    model = small_model(BYTES, w=(3, 4, 1, 1))
    grid = Grid(step, 0, False)
    written = write(model, plan_of({"f": grid, "p": grid}, ("y",)))
    readers = Counter(node.op_type for node in written.graph.inputs[0].consumers())
    assert readers == ({"DequantizeLinear": 1} if step == 1.0 else {"Cast": 1})
    assert kinds(written)["QuantizeLinear"] == (1 if step == 1.0 else 2)
    np.testing.assert_array_equal(run(written, IMAGE)["z"], -np.minimum(IMAGE.astype(np.float32), 255 * step))
    codes, scales = quantize_weight(numbers(model, "w"), 127)
    pixels = np.minimum(IMAGE.astype(np.float64), 255 * step).transpose(0, 3, 1, 2)
    expected = mixed(pixels, codes.astype(np.float64) * scales.reshape(-1, 1, 1, 1))
    np.testing.assert_allclose(run(written, IMAGE)["y"], expected, rtol=1e-5, atol=1e-2)


UPSAMPLING = (
    "(float[1,4,6,6] x) => (float[] y) { r = Constant<value_floats=[1.0, 1.0, 2.0, 3.0]>() p = Identity(x) "
    'q = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(p, , r) y = Conv(q, w) }'
)


@pytest.mark.parametrize(
    ("plan", "copied"),
    [
        (plan_of({"p": UNSIGNED, "q": UNSIGNED}, ("y",)), True),
        (plan_of({"q": UNSIGNED, "p": UNSIGNED}, ("y",)), True),
        (plan_of({"p": UNSIGNED, "q": UNSIGNED}, ("y",), copied=False), False),
        (plan_of({"p": Grid(0.05, 100, False), "q": UNSIGNED}, ("y",)), False),
        (plan_of({"p": UNSIGNED, "q": UNSIGNED}, ("y",), everywhere=("q",)), False),
        (plan_of({"p": UNSIGNED, "q": UNSIGNED}, ("y",), everywhere=("p",)), False),
        (plan_of({"q": UNSIGNED}, ("y",)), False),
    ],
    ids=["one grid", "in any order", "not asked for", "two grids", "source in float", "made in float", "one tensor"],
)
def test_upsampling_copies_codes_on_one_grid(plan: QuantPlan, copied: bool) -> None:
    model = small_model(UPSAMPLING, w=(3, 4, 1, 1))
    written = write(model, plan)
    assert kinds(written)["Resize"] == (not copied)
    assert kinds(written)["Concat"] == 2 * copied
    values = on_grid(X, plan.grids["p"]) if "p" in plan.everywhere else X.astype(np.float64)
    large = on_grid(values.repeat(2, axis=2).repeat(3, axis=3).astype(np.float32), UNSIGNED)
    codes, scales = quantize_weight(numbers(model, "w"), 127)
    expected = mixed(large, codes.astype(np.float64) * scales.reshape(-1, 1, 1, 1))
    np.testing.assert_allclose(run(written)["y"], expected, rtol=0, atol=1e-4)


def test_nodes_are_in_order_and_the_file_is_valid() -> None:
    written = write(small_model(UPSAMPLING, w=(3, 4, 1, 1)), plan_of({"p": UNSIGNED, "q": UNSIGNED}, ("y",)))
    onnx.checker.check_model(to_proto(written), full_check=True)


def test_a_layer_that_reads_the_input_of_the_graph() -> None:
    model = small_model("(float[1,4,6,6] x) => (float[] y) { y = Conv(x, w) }", w=(3, 4, 1, 1))
    for grid in (UNSIGNED, Grid(1.0, 0, False)):
        written = write(model, plan_of({"x": grid}, ("y",)))
        codes, scales = quantize_weight(numbers(model, "w"), 127)
        expected = mixed(on_grid(X, grid), codes.astype(np.float64) * scales.reshape(-1, 1, 1, 1))
        np.testing.assert_allclose(run(written)["y"], expected, rtol=0, atol=1e-5)
