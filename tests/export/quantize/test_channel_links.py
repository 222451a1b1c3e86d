"""Which channels must share a factor, operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.quantize.channel_links import ChannelLinks, channel_factors

from .small_graphs import small_model

SHAPE = [1, 4, 8, 8]
Node = tuple[str, list[str], list[str], dict[str, Any]]


def linked(*nodes: Node, **constants: npt.NDArray[Any]) -> tuple[ChannelLinks, ir.Graph]:
    """Return the links of x, y → two 1x1 convolutions a, b → nodes → a 1x1 convolution on each of their outputs."""
    rng = np.random.default_rng(0)
    weights = {"wa": rng.normal(size=(4, 4, 1, 1)), "wb": rng.normal(size=(4, 4, 1, 1)), **constants}
    made = [helper.make_node("Conv", [x, w], [o]) for x, w, o in (("x", "wa", "a"), ("y", "wb", "b"))]
    made += [helper.make_node(op, inputs, outputs, **attributes) for op, inputs, outputs, attributes in nodes]
    ends = nodes[-1][2]
    channels = {"Concat": 8, "Split": 2}.get(nodes[-1][0], 4)
    for name in ends:
        weights[f"w_{name}"] = rng.normal(size=(3, channels, 1, 1))
        made.append(helper.make_node("Conv", [name, f"w_{name}"], [f"out_{name}"]))
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    outputs = [helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, None) for name in ends]
    stored = [
        numpy_helper.from_array(w if w.dtype == np.int64 else w.astype(np.float32), n) for n, w in weights.items()
    ]
    model = helper.make_model(
        helper.make_graph(made, "g", inputs, outputs, stored), opset_imports=[helper.make_opsetid("", 13)]
    )
    shaped = from_proto(model)
    infer_shapes(shaped)
    return ChannelLinks(shaped.graph), shaped.graph


def free(links: ChannelLinks, tensor: str) -> bool:
    found = links.free[links.groups(tensor)]
    assert found.all() == found.any(), "all channels alike"
    return bool(found.all())


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool"])
def test_homogeneous_operators_link_their_two_sides(op: str) -> None:
    links, _ = linked((op, ["a"], ["t"], {"kernel_shape": [1, 1]} if op in ("MaxPool", "AveragePool") else {}))
    np.testing.assert_array_equal(links.groups("a"), links.groups("t"))
    assert free(links, "t")
    assert len(set(links.groups("t"))) == 4
    assert not set(links.groups("a")) & set(links.groups("b"))
    assert not free(links, "x"), "inputs stay"
    assert not free(links, "out_t"), "and so do outputs"


def test_sums_link_both_terms() -> None:
    links, _ = linked(("Add", ["a", "b"], ["t"], {}))
    np.testing.assert_array_equal(links.groups("a"), links.groups("t"))
    np.testing.assert_array_equal(links.groups("b"), links.groups("t"))
    assert free(links, "t")


@pytest.mark.parametrize("axis", [1, -3])
def test_concatenations_link_parts_in_order(axis: int) -> None:
    links, _ = linked(("Concat", ["a", "b"], ["t"], {"axis": axis}))
    np.testing.assert_array_equal(links.groups("t"), [*links.groups("a"), *links.groups("b")])
    assert free(links, "t")
    assert len(set(links.groups("t"))) == 8


@pytest.mark.parametrize("axis", [1, -3])
def test_splits_link_parts_in_order(axis: int) -> None:
    links, _ = linked(("Split", ["a"], ["s", "t"], {"axis": axis}))
    np.testing.assert_array_equal(links.groups("a"), [*links.groups("s"), *links.groups("t")])
    assert free(links, "t")


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_a_product_with_a_gate_links_what_is_gated(gate: str) -> None:
    for order in (["a", "g"], ["g", "a"]):
        links, _ = linked((gate, ["b"], ["g"], {}), ("Mul", order, ["t"], {}))
        np.testing.assert_array_equal(links.groups("a"), links.groups("t"))
        assert free(links, "t")
        assert not free(links, "g")
        assert not free(links, "b"), "a gate is not homogeneous"


def test_a_product_with_a_gate_per_channel_fixes_both() -> None:
    links, _ = linked(
        ("GlobalAveragePool", ["b"], ["p"], {}), ("Sigmoid", ["p"], ["g"], {}), ("Mul", ["a", "g"], ["t"], {})
    )
    assert free(links, "t"), "channel by channel it is homogeneous"
    narrow = np.full((1, 4, 1, 1), 0.5)
    links, _ = linked(
        ("Conv", ["b", "one"], ["p"], {}), ("Sigmoid", ["p"], ["g"], {}), ("Mul", ["a", "g"], ["t"], {}), one=narrow
    )
    assert not free(links, "a"), "one gate for all channels is left alone"
    assert not free(links, "t")


@pytest.mark.parametrize(
    "nodes",
    [
        [("Mul", ["a", "b"], ["t"], {})],
        [("Tanh", ["a"], ["t"], {})],
        [("Sigmoid", ["a"], ["g"], {}), ("Mul", ["a", "g"], ["t"], {})],
        [("Concat", ["a", "b"], ["t"], {"axis": 2}), ("Slice", ["t", "start", "end"], ["u"], {})],
    ],
    ids=["product", "tanh", "SiLU", "rows"],
)
def test_other_operators_fix_their_channels(nodes: list[Node]) -> None:
    numbers = {"start": np.array([0, 0, 0, 0]), "end": np.array([1, 4, 8, 8])}
    links, _ = linked(*nodes, **(numbers if nodes[-1][0] == "Slice" else {}))
    assert not free(links, "a")
    assert not free(links, "t")


def test_factors_of_channels() -> None:
    factors = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
    links, graph = linked(("Mul", ["a", "f"], ["t"], {}), f=factors)
    found = channel_factors(next(n for n in graph if n.op_type == "Mul"))
    assert found is not None
    np.testing.assert_array_equal(found, factors)
    assert free(links, "a")
    assert free(links, "t")
    assert not set(links.groups("a")) & set(links.groups("t")), "it absorbs factors on both sides"
    for other in (np.ones((1, 1, 1, 1)), np.ones((4, 1, 1)), np.ones((1, 1, 1, 8))):
        links, graph = linked(("Mul", ["a", "f"], ["t"], {}), f=other)
        assert channel_factors(next(n for n in graph if n.op_type == "Mul")) is None
        assert not free(links, "t")
    assert all(channel_factors(node) is None for node in graph if node.op_type != "Mul")


def links_of(nodes: str, outputs: str = "float[] y", **weights: Any) -> ChannelLinks:
    """Return the links of x → 1x1 convolution a → nodes."""
    text = f"(float[2,4,8,8] x, float[4,n,1,1] any_w, float[4] any_b) => ({outputs}) {{ a = Conv(x, w) {nodes} }}"
    return ChannelLinks(small_model(text, **{"w": (4, 4, 1, 1), "b": (4,), **weights}).graph)


def test_the_channels_of_all_tensors_are_counted() -> None:
    links = links_of("t = Relu(a) y = Conv(t, w)")
    assert links.total == len(links.free) == 4 * 4
    assert [name in links for name in ("x", "a", "t", "y", "w", "any_b")] == [True] * 4 + [False] * 2
    assert {int(g) for name in ("x", "a", "t", "y") for g in links.groups(name)} <= set(range(16))


def test_only_tensors_of_four_dimensions_with_a_known_number_of_channels_have_links() -> None:
    links = links_of("k = Constant<value=float[1,1,1,2] {1.0, 2.0}>() s = Flatten(a) u = Mystery(a) y = Neg(s)")
    assert [name in links for name in ("k", "s", "u", "y", "any_w")] == [False] * 5
    assert links.total == 8
    assert not free(links, "a"), "an operator that is not known"


@pytest.mark.parametrize("inputs", ["any_w", "w, any_b", "any_w, b"])
def test_a_convolution_with_computed_numbers_fixes_its_channels(inputs: str) -> None:
    assert free(links_of("t = Relu(a) y = Conv(t, w, b)"), "t")
    assert not free(links_of(f"t = Relu(a) y = Conv(t, {inputs})"), "t")


@pytest.mark.parametrize(
    "node",
    [
        "t = Add(a, k)",
        "t = Add(a, one)",
        "t = Add(one, a)",
        "t = Concat<axis=2>(a, a)",
        "t = Concat<axis=1>(a, k)",
        "t, u = Split<axis=2>(a)",
        "t, u = Split(a)",
        "t = Mul(a, one)",
        "g = Sigmoid(a) h = Sigmoid(a) t = Mul(g, h)",
    ],
)
def test_what_does_not_keep_channels_fixes_them(node: str) -> None:
    """`k` is a constant with a number per channel, `one` has one channel."""
    k = np.arange(1.0, 5.0, dtype=np.float32).reshape(1, 4, 1, 1)
    end = "v" if "axis=1>" in node else "w"
    links = links_of(
        f"one = Conv(x, narrow) {node} y = Conv(t, {end}) z = Conv(a, w)", "float[] y, float[] z",
        k=np.broadcast_to(k, (2, 4, 8, 8)).copy(), narrow=(1, 4, 1, 1), v=(4, 8, 1, 1),
    )  # fmt: skip
    assert not free(links, "a")
    assert not free(links, "t")


def test_a_product_of_constants_is_no_place_for_factors() -> None:
    k = np.ones((2, 4, 8, 8), np.float32)
    assert not free(links_of("t = Mul(k, k) y = Conv(t, w)", k=k), "t")


def test_fixed_channels_stay_with_their_node() -> None:
    """The same graphs, but for the node: where it keeps channels, they are free."""
    for node in ("t = Add(a, c)", "t = Concat<axis=1>(a, c)", "g = Sigmoid(c) t = Mul(a, g)", "t = Mul(a, k)"):
        wide = "v" if "Concat" in node else "w"
        links = links_of(
            f"c = Conv(x, w) {node} y = Conv(t, {wide})", k=np.full((1, 4, 1, 1), 2, np.float32), v=(4, 8, 1, 1)
        )
        assert free(links, "a"), node
        assert free(links, "t"), node


def test_factors_of_two_channels_are_factors_and_of_one_are_not() -> None:
    for channels, found in ((1, False), (2, True)):
        model = small_model(
            "(float[1,2,8,8] x) => (float[] y) { y = Mul(x, k) }", k=np.full((1, channels, 1, 1), 2, np.float32)
        )
        assert (channel_factors(next(iter(model.graph))) is not None) is found
    both = small_model("(float[1,2,8,8] x) => (float[] y) { t = Mul(k, k) y = Add(x, t) }", k=(1, 2, 1, 1))
    assert channel_factors(next(iter(both.graph))) is None


def test_an_input_of_the_graph_may_be_gated() -> None:
    links = links_of("g = Sigmoid(a) t = Mul(x, g) y = Conv(t, w)")
    np.testing.assert_array_equal(links.groups("x"), links.groups("t"))
    assert not free(links, "t"), "an input stays as it is"
