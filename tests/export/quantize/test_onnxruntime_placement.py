"""Where onnxruntime's grids are, decision by decision, on graphs of a few nodes."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgedet_export.quantize.fuse_silu import FuseSilu
from edgedet_export.quantize.layers import find_layers
from edgedet_export.quantize.number_format import NUMBER_FORMATS
from edgedet_export.quantize.plan import Grid, QuantPlan
from edgedet_export.quantize.targets.onnxruntime_placement import place_onnxruntime

from .small_graphs import ranges_of, small_model

CONV = (4, 4, 3, 3)
POINT = (4, 4, 1, 1)


def place(model: ir.Model, *keep: str, cpu: str = "vnni", **bounds: tuple[float, float]) -> QuantPlan:
    return place_onnxruntime(
        model.graph,
        find_layers(model.graph),
        ranges_of(model, **bounds),
        NUMBER_FORMATS[cpu],  # type: ignore[index]
        dict.fromkeys(keep, "asked"),
    )


def spanning(low: float, high: float) -> Grid:
    return Grid.spanning((low, high), NUMBER_FORMATS["vnni"])


def between(nodes: str, outputs: str = "float[] y") -> ir.Model:
    """Return x → Conv → a → nodes → t → 1x1 Conv → y."""
    text = (
        f"(float[1,4,16,16] x) => ({outputs}) {{ p = Relu(x) a = Conv<pads=[1,1,1,1]>(p, w) {nodes} y = Conv(t, v) }}"
    )
    return small_model(text, w=CONV, v=POINT)


@pytest.mark.parametrize(
    "op",
    ["MaxPool<kernel_shape=[2,2]>", "AveragePool<kernel_shape=[2,2]>", "LeakyRelu", "Sigmoid", "Identity"],
)
def test_what_has_an_integer_kernel_is_quantized_on_both_sides(op: str) -> None:
    kind, _, attributes = op.partition("<")
    plan = place(between(f"t = {kind} {'<' + attributes if attributes else ''} (a)"))
    assert set(plan.grids) == {"p", "a", "t"}
    assert plan.everywhere == plan.grids.keys()
    assert (plan.layers, plan.integer_products, plan.kept) == (("a", "y"), ("y",), ())


@pytest.mark.parametrize("op", ["Tanh", "Softplus", "Exp", "Abs"])
def test_what_has_none_reads_floats(op: str) -> None:
    assert set(place(between(f"m = {op}(a) s = Sigmoid(m) t = MaxPool<kernel_shape=[2,2]>(s)")).grids) == {
        "p", "a", "s", "t",
    }, "a pooling in front of a layer pulls, a table does not"  # fmt: skip
    assert set(place(between(f"s = Sigmoid(a) t = {op}(s)")).grids) == {"p", "a", "s", "t"}


@pytest.mark.parametrize("op", ["Relu", "Clip"])
def test_clipping_behind_a_layer_is_done_by_the_grid(op: str) -> None:
    assert set(place(between(f"t = {op}(a)")).grids) == {"p", "t"}
    twice = place(between(f"t = {op}(a) z = Tanh(a)", "float[] y, float[] z"))
    assert set(twice.grids) == {"p", "a", "t"}, "another reader needs what is not clipped"
    shown = small_model(f"(float[1,4,8,8] x) => (float[] t) {{ p = Tanh(x) a = Conv(p, w) t = {op}(a) }}", w=CONV)
    assert set(place(shown).grids) == {"p", "a"}, "an output is given in float"


@pytest.mark.parametrize(("mode", "grids"), [("nearest", {"p", "a", "t", "s"}), ("linear", {"p", "a"})])
def test_resizing_of_codes_is_by_the_nearest_only(mode: str, grids: set[str]) -> None:
    scales = "r = Constant<value_floats=[1.0, 1.0, 2.0, 2.0]>()"
    model = between(f'{scales} t = Resize<mode="{mode}">(a, , r) s = Sigmoid(t) z = Tanh(s)', "float[] y, float[] z")
    assert {"p", "a", "t", "s"} == set(place(model).grids), "in front of a layer it pulls in either mode"
    assert set(place(model, "y").grids) == grids


def test_a_resize_without_a_mode_is_by_the_nearest() -> None:
    scales = "r = Constant<value_floats=[1.0, 1.0, 2.0, 2.0]>()"
    model = between(f"{scales} t = Resize(a, , r) s = Sigmoid(t) z = Conv(s, v)", "float[] y, float[] z")
    assert set(place(model, "y").grids) == {"p", "a", "t", "s"}


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_two_terms_are_both_quantized_or_none(op: str) -> None:
    both = between(f"b = Conv<pads=[1,1,1,1]>(p, w) s = {op}(a, b) t = Sigmoid(s)")
    assert {"a", "b", "s", "t"} < set(place(both).grids)
    one = between(f"b = Tanh(p) s = {op}(a, b) u = Exp(s) t = Tanh(u)")
    assert set(place(one).grids) == {"p", "a", "t"}
    constant = between(f"k = Constant<value_float=2.0>() s = {op}(a, k) u = Exp(s) t = Tanh(u)")
    assert set(place(constant).grids) == {"p", "a", "t"}, "with a constant it computes in float"
    late = between(f"s = {op}(a, p) t = Tanh(s)")
    assert set(place(late).grids) == {"p", "a", "s", "t"}


def test_an_addition_in_front_of_a_layer_pulls_both_terms() -> None:
    model = between("b = Tanh(p) c = Exp(a) t = Add(b, c)")
    assert set(place(model).grids) == {"p", "a", "b", "c", "t"}
    assert set(place(between("b = Tanh(p) c = Exp(a) t = Mul(b, c)")).grids) == {"p", "a", "t"}


def test_a_concatenation_is_quantized_if_one_part_is() -> None:
    model = between("b = Tanh(p) s = Concat<axis=2>(b, a) u = Exp(s) t = Tanh(u)")
    assert set(place(model).grids) == {"p", "a", "b", "s", "t"}
    none = between("b = Tanh(p) c = Exp(a) s = Concat<axis=2>(b, c) u = Exp(s) t = Tanh(u)")
    assert set(place(none).grids) == {"p", "a", "t"}


def test_inputs_and_outputs_of_the_graph_are_not_quantized() -> None:
    model = small_model("(float[1,4,8,8] x) => (float[] y) { a = Conv(x, w) y = Flatten(a) }", w=CONV)
    plan = place(model)
    assert set(plan.grids) == {"a"}


def test_one_tensor_alone_spreads() -> None:
    model = small_model(
        "(float[1,4,8,8] x) => (float[] y) { p = MaxPool<kernel_shape=[2,2]>(x) y = Conv(p, w) }", w=POINT
    )
    assert set(place(model).grids) == {"p"}
    model = small_model(
        "(float[1,4,8,8] x) => (float[] y)"
        "{ e = Exp(x) p = MaxPool<kernel_shape=[2,2]>(e) q = Identity(p) y = Conv(q, w) }", w=POINT,
    )  # fmt: skip
    assert set(place(model).grids) == {"e", "p", "q"}


def test_tensors_that_are_only_moved_have_the_first_ones_range() -> None:
    """Nothing of this group is computed: its source is an input of the graph."""
    model = small_model(
        "(float[1,4,8,8] x) => (float[] y) { p = MaxPool<kernel_shape=[2,2]>(x) q = Identity(p) y = Conv(q, w) }",
        w=POINT,
    )
    grids = place(model, p=(-1, 3), q=(-5, 7)).grids
    assert grids == {"p": spanning(-1, 3), "q": spanning(-1, 3)}


def test_moved_tensors_have_the_range_of_what_was_computed() -> None:
    grids = place(between("m = MaxPool<kernel_shape=[2,2]>(a) t = Identity(m)"), a=(-2, 2), m=(-9, 9), t=(-8, 8)).grids
    assert grids["a"] == grids["m"] == grids["t"] == spanning(-2, 2)
    assert grids["p"] == spanning(-1, 1)


def test_parts_of_an_input_have_a_grid_each() -> None:
    """Their source is in float, so nothing is copied between 8-bit tensors."""
    model = small_model(
        "(float[1,8,8,8] x) => (float[] y, float[] z) { p, q = Split<axis=1>(x) y = Conv(p, w) z = Conv(q, w) }",
        w=POINT,
    )
    assert place(model, p=(-1, 3), q=(-5, 7)).grids == {"p": spanning(-1, 3), "q": spanning(-5, 7)}
    model = small_model(
        "(float[1,8,8,8] x) => (float[] y, float[] z)"
        "{ e = Exp(x) p, q = Split<axis=1>(e) y = Conv(p, w) z = Conv(q, w) }", w=POINT,
    )  # fmt: skip
    assert set(place(model, e=(0, 9), p=(-1, 3), q=(-5, 7)).grids.values()) == {spanning(0, 9)}


def test_parts_of_a_concatenation_share_its_grid_unless_it_is_much_wider() -> None:
    model = between("b = Conv<pads=[1,1,1,1]>(p, w) t = Concat<axis=2>(a, b)")
    grids = place(model, a=(0, 1), b=(-1.5, 1.5), t=(-1.5, 1.5)).grids
    assert grids["a"] == grids["b"] == grids["t"] == spanning(-1.5, 1.5), "three times as wide"
    grids = place(model, a=(0, 0.99), b=(-1.5, 1.5), t=(-1.5, 1.5)).grids
    assert (grids["a"], grids["b"], grids["t"]) == (spanning(0, 0.99), spanning(-1.5, 1.5), spanning(-1.5, 1.5))


@pytest.mark.parametrize(
    ("readers", "product"),
    [
        ("t = Tanh(a)", True),
        ("h = HardSigmoid(a) t = Mul(a, h)", True),
        ("h = HardSigmoid(a) m = Mul(a, h) e = Relu(a) t = Add(m, e)", False),
        ("h = Tanh(a) t = Mul(a, h)", False),
        ("t = Relu(a)", False),
        ("t = Identity(a)", False),
        ("t = Sigmoid(a)", False),
        ("g = Sigmoid(a) t = Mul(a, g)", True),
    ],
)
def test_a_pointwise_layer_before_a_float_activation_gives_floats(readers: str, product: bool) -> None:
    text = f"(float[1,4,16,16] x) => (float[] y) {{ p = Exp(x) a = Conv(p, w) {readers} y = Conv(t, v) }}"
    plan = place(FuseSilu()(small_model(text, w=POINT, v=POINT)).model)
    assert plan.integer_products == (("a", "y") if product else ("y",))
    assert ("a" in plan.grids) is (not product and readers != "t = Relu(a)")
    assert place(small_model(text, w=CONV, v=POINT)).integer_products == ("y",)


def test_heads() -> None:
    model = small_model(
        "(float[1,4,8,8] x) => (float[] y, float[] z, float[] u)"
        "{ p = Tanh(x) y = Conv(p, w) z = Conv(p, v) u = ConvTranspose(p, w) }", w=POINT, v=CONV,
    )  # fmt: skip
    plan = place(model)
    assert (plan.layers, plan.integer_products) == (("y",), ("y",))
    assert [(k.layer, k.reason.split(":")[0], k.macs) for k in plan.kept] == [
        ("z", "head larger than 1x1", 6 * 6 * 4 * 4 * 9),
        ("u", "transposed convolution", 8 * 8 * 4 * 4),
    ]
    assert set(plan.grids) == {"p"}
    kept = place(model, "y")
    assert (kept.kept[0].layer, kept.kept[0].reason) == ("y", "asked")
    assert (kept.grids, kept.layers) == ({}, ())
    assert (plan.bias, plan.copied_upsampling, plan.number_format) == ("int32", True, NUMBER_FORMATS["vnni"])


@pytest.mark.parametrize(("cpu", "zero"), [("vnni", 0), ("dotprod", -128)])
def test_a_sigmoid_and_bytes_have_grids_of_their_own(cpu: str, zero: int) -> None:
    model = small_model(
        "(uint8[1,8,8,4] x) => (float[] y)"
        "{ f = Cast<to=1>(x) p = Transpose<perm=[0,3,1,2]>(f) a = Conv(p, w) t = Sigmoid(a) y = Conv(t, v) }",
        w=CONV, v=CONV,
    )  # fmt: skip
    grids = place(model, cpu=cpu).grids
    assert grids["t"] == Grid(1 / 256, zero, cpu == "dotprod")
    assert grids["f"] == grids["p"] == Grid(1.0, zero, cpu == "dotprod")
    mixed = small_model(
        "(uint8[1,4,8,8] x) => (float[] y)"
        "{ f = Cast<to=1>(x) e = Tanh(f) p = Concat<axis=1>(f, e) y = Conv(p, w) }", w=(4, 8, 1, 1),
    )  # fmt: skip
    joint = place(mixed, f=(0, 255), e=(0, 510), p=(0, 510)).grids
    assert joint["f"] == joint["e"] == joint["p"] == spanning(0, 510)


@pytest.mark.parametrize(
    ("readers", "low"),
    [
        ("g = Sigmoid(a) t = Mul(a, g)", -10),
        ("g = Sigmoid(a) s = Mul(a, g) e = LeakyRelu(a) t = Add(s, e)", -40),
        ("t = Sigmoid(a)", -40),
    ],
)
def test_what_silu_alone_reads_begins_at_minus_ten(readers: str, low: float) -> None:
    grids = place(FuseSilu()(between(readers)).model, a=(-40, 20)).grids
    assert grids["a"] == spanning(low, 20)


def test_moving_depth_into_space_keeps_the_codes() -> None:
    """Its mode is another one's name."""
    model = between('d = DepthToSpace<blocksize=2, mode="CRD">(a) t = SpaceToDepth<blocksize=2>(d)')
    assert set(place(model).grids) == {"p", "a", "d", "t"}
    last = between('d = DepthToSpace<blocksize=2, mode="CRD">(a) t = Exp(a)', "float[] y, float[] d")
    assert set(place(last).grids) == {"p", "a", "t"}
    late = between('d = DepthToSpace<blocksize=2, mode="CRD">(a) z = Neg(d) t = Exp(a)', "float[] y, float[] z")
    assert set(place(late).grids) == {"p", "a", "d", "t"}


def test_numbers_that_are_no_floats_have_no_grid() -> None:
    model = small_model(
        "(uint8[1,8,8,4] x) => (float[] y) { p = Transpose<perm=[0,3,1,2]>(x) f = Cast<to=1>(p) y = Conv(f, w) }",
        w=POINT,
    )
    assert set(place(model).grids) == {"f"}


def test_constants_have_no_grid() -> None:
    model = between("k = Constant<value_float=2.0>() t = Add(a, k)")
    assert set(place(model).grids) == {"p", "a", "t"}
