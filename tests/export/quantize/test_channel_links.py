"""Which channels must share a factor: each operator that joins, absorbs or fixes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.onnx_graph import OnnxGraph
from edgedet_export.quantize.channel_links import ChannelLinks, channel_factors

Node = tuple[str, Sequence[str], Sequence[str], dict[str, Any]]


def links(
    *nodes: Node, shapes: Mapping[str, Sequence[int]], constants: Mapping[str, tuple[int, ...]] | None = None
) -> ChannelLinks:
    """Return the links of a graph between two 1x1 convolutions, from ``a`` and ``b`` to ``out``."""
    made = [helper.make_node(op, list(i), list(o), name=o[0], **more) for op, i, o, more in nodes]
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in shapes.items()}
    weights = {
        **{n: np.ones(s, np.float32) for n, s in (constants or {}).items()},
        "w_a": np.ones((shapes["a"][1], 3, 1, 1), np.float32),
        "w_b": np.ones((shapes["b"][1], 3, 1, 1), np.float32),
        "w_out": np.ones((2, shapes["y"][1], 1, 1), np.float32),
    }
    first = [helper.make_node("Conv", ["image", f"w_{n}"], [n], name=n) for n in ("a", "b")]
    last = helper.make_node("Conv", ["y", "w_out"], ["out"], name="out")
    edge = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 4, 4]) for n, c in (("image", 3), ("out", 2))]
    graph = helper.make_graph(
        [*first, *made, last],
        "g",
        edge[:1],
        edge[1:],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
        value_info=list(values.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return ChannelLinks(OnnxGraph(model))


def same(found: ChannelLinks, one: str, other: str) -> bool:
    return bool(np.array_equal(found.groups(one), found.groups(other)))


def free(found: ChannelLinks, tensor: str) -> list[bool]:
    return [bool(v) for v in found.free[found.groups(tensor)]]


A, B = (1, 4, 4, 4), (1, 4, 4, 4)


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "MaxPool", "AveragePool", "Identity"])
def test_operations_that_scale_with_their_input(op: str) -> None:
    more: dict[str, Any] = {"kernel_shape": [1, 1]} if "Pool" in op else {}
    found = links((op, ["a"], ["y"], more), shapes={"a": A, "b": B, "y": A})
    assert same(found, "a", "y")
    assert free(found, "y") == [True] * 4
    assert len(set(found.groups("y").tolist())) == 4, "channels stay apart from each other"
    assert not set(found.groups("a").tolist()) & set(found.groups("b").tolist())


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "HardSwish", "Softmax", "Clip", "Abs"])
def test_operations_that_do_not(op: str) -> None:
    found = links((op, ["a"], ["y"], {}), shapes={"a": A, "b": B, "y": A})
    assert free(found, "a") == free(found, "y") == [False] * 4
    assert free(found, "b") == [True] * 4


def test_sums_join_and_other_pairs_do_not() -> None:
    found = links(("Add", ["a", "b"], ["y"], {}), shapes={"a": A, "b": B, "y": A})
    assert same(found, "a", "y")
    assert same(found, "b", "y")
    assert free(found, "y") == [True] * 4
    for op in ("Sub", "Max", "Div", "Mul"):
        found = links((op, ["a", "b"], ["y"], {}), shapes={"a": A, "b": B, "y": A})
        assert free(found, "a") == free(found, "b") == free(found, "y") == [False] * 4


def test_a_sum_that_spreads_one_channel_fixes_all() -> None:
    found = links(("Add", ["a", "b"], ["y"], {}), shapes={"a": A, "b": (1, 1, 4, 4), "y": A})
    assert free(found, "a") == free(found, "y") == [False] * 4
    assert free(found, "b") == [False]


def test_parts_of_a_concatenation_keep_their_places() -> None:
    found = links(("Concat", ["a", "b"], ["y"], {"axis": 1}), shapes={"a": A, "b": (1, 3, 4, 4), "y": (1, 7, 4, 4)})
    assert found.groups("y").tolist() == [*found.groups("a").tolist(), *found.groups("b").tolist()]
    assert free(found, "y") == [True] * 7
    found = links(("Concat", ["a", "b"], ["y"], {"axis": 2}), shapes={"a": A, "b": B, "y": (1, 4, 8, 4)})
    assert free(found, "a") == free(found, "b") == [False] * 4


def test_parts_of_a_split_keep_their_places() -> None:
    nodes: list[Node] = [("Split", ["a", "sizes"], ["p", "q"], {"axis": 1}), ("Add", ["q", "b"], ["y"], {})]
    shapes = {"a": (1, 7, 4, 4), "b": A, "p": (1, 3, 4, 4), "q": A, "y": A}
    found = links(*nodes, shapes=shapes)
    assert found.groups("a").tolist() == [*found.groups("p").tolist(), *found.groups("q").tolist()]
    assert same(found, "b", "q")


@pytest.mark.parametrize("order", [["a", "gate"], ["gate", "a"]])
def test_a_gate_is_fixed_and_what_it_gates_passes(order: list[str]) -> None:
    nodes: list[Node] = [("Sigmoid", ["b"], ["gate"], {}), ("Mul", order, ["y"], {})]
    found = links(*nodes, shapes={"a": A, "b": B, "gate": A, "y": A})
    assert same(found, "a", "y")
    assert free(found, "a") == [True] * 4
    assert free(found, "gate") == free(found, "b") == [False] * 4


def test_a_gate_of_one_channel_passes_nothing() -> None:
    nodes: list[Node] = [("Sigmoid", ["b"], ["gate"], {}), ("Mul", ["a", "gate"], ["y"], {})]
    found = links(*nodes, shapes={"a": A, "b": (1, 1, 4, 4), "gate": (1, 1, 4, 4), "y": A})
    assert free(found, "a") == free(found, "y") == [False] * 4


def test_factors_of_channels_absorb_on_both_sides() -> None:
    found = links(("Mul", ["a", "k"], ["y"], {}), shapes={"a": A, "b": B, "y": A}, constants={"k": (1, 4, 1, 1)})
    assert not same(found, "a", "y")
    assert free(found, "a") == free(found, "y") == [True] * 4


def test_inputs_and_outputs_of_the_graph_are_fixed() -> None:
    found = links(("Relu", ["a"], ["y"], {}), shapes={"a": A, "b": B, "y": A})
    assert free(found, "image") == [False] * 3
    assert free(found, "out") == [False] * 2
    assert "image" in found
    assert "w_a" not in found
    assert "nothing" not in found


@pytest.mark.parametrize(
    ("op", "shape", "is_factor"),
    [
        ("Mul", (1, 4, 1, 1), True),
        ("Mul", (1, 1, 1, 1), False),
        ("Mul", (4, 1, 1), False),
        ("Mul", (1, 1, 4, 1), False),
        ("Mul", (1, 4, 2, 1), False),
        ("Add", (1, 4, 1, 1), False),
    ],
)
def test_channel_factors(op: str, shape: tuple[int, ...], is_factor: bool) -> None:
    node = helper.make_node(op, ["x", "k"], ["y"], name="y")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, [1, 4, 2, 2])],
        [value("y", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(np.full(shape, 3, np.float32), "k")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    found = OnnxGraph(model)
    factors = channel_factors(found, next(iter(found.nodes)))
    assert (factors is not None) is is_factor
