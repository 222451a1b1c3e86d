"""onnxruntime's trace and the two graphs become layers: counts and bytes of events that are made up here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgedet_runtime.profiling.layers import Layer, convolution_macs
from edgedet_runtime.profiling.layers_onnxruntime import _layers
from edgedet_runtime.profiling.layers_openvino import _macs as openvino_macs
from edgedet_runtime.profiling.onnx_listing import ListedNode, OnnxListing

Typed = tuple[str, Sequence[int]]
NO_GRAPH = OnnxListing(nodes=(), weight_shapes={})


def event(
    name: str, op: str, inputs: Sequence[Typed], outputs: Sequence[Typed], us: float = 1000.0, index: int = 0
) -> dict[str, Any]:
    """Return an event as onnxruntime writes it."""
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": us,
        "args": {
            "op_name": op,
            "node_index": str(index),
            "input_type_shape": [{kind: list(shape)} for kind, shape in inputs],
            "output_type_shape": [{kind: list(shape)} for kind, shape in outputs],
        },
    }


def only(*events: dict[str, Any], graph: OnnxListing = NO_GRAPH, original: OnnxListing = NO_GRAPH) -> Layer:
    (layer,) = _layers(events, graph, original, 5)
    return layer


def listing(*nodes: tuple[str, str, Sequence[str], Sequence[str]], **shapes: tuple[int, ...]) -> OnnxListing:
    made = tuple(ListedNode(name, op, tuple(inputs), tuple(outputs)) for name, op, inputs, outputs in nodes)
    return OnnxListing(nodes=made, weight_shapes=shapes)


MACS: dict[str, tuple[str, list[Typed], list[Typed], int, int]] = {
    "convolution": (
        "Conv",
        [("float", (1, 3, 8, 8)), ("float", (16, 3, 3, 3)), ("float", (16,))],
        [("float", (1, 16, 8, 8))],
        16 * 64 * 27,
        4 * (192 + 432 + 16 + 1024),
    ),
    "convolution in bytes": (
        "QLinearConv",
        [("uint8", (1, 3, 8, 8)), ("float", ()), ("uint8", ()), ("int8", (16, 3, 3, 3)), ("int32", (16,))],
        [("uint8", (1, 16, 8, 8))],
        16 * 64 * 27,
        192 + 4 + 1 + 432 + 64 + 1024,
    ),
    "transposed convolution": (
        "ConvTranspose",
        [("float", (1, 6, 5, 5)), ("float", (6, 4, 2, 2))],
        [("float", (1, 4, 10, 10))],
        6 * 25 * 4 * 4,
        4 * (150 + 96 + 400),
    ),
    "matrix": ("MatMul", [("float", (7, 5)), ("float", (5, 3))], [("float", (7, 3))], 7 * 3 * 5, 4 * (35 + 15 + 21)),
    "matrix with a bias": (
        "Gemm",
        [("float", (2, 9)), ("float", (9, 4)), ("float", (4,))],
        [("float", (2, 4))],
        2 * 4 * 9,
        4 * (18 + 36 + 4 + 8),
    ),
    "matrix of nothing": ("MatMul", [("float", (5,)), ("float", (5,))], [("float", ())], 0, 4 * 11),
    "sum": ("Add", [("float16", (1, 4, 2, 2)), ("float16", (1,))], [("float16", (1, 4, 2, 2))], 0, 2 * 33),
    "integers": ("Gather", [("int64", (10,)), ("int64", ()), ("bool", (3,))], [("double", (2,))], 0, 80 + 8 + 3 + 16),
    "eight bytes": ("Cast", [("int64", (3,))], [("double", (3,))], 0, 48),
    "two bytes": ("Cast", [("float16", (3,))], [("bfloat16", (3,))], 0, 12),
    "a byte": ("Cast", [("int8", (3,)), ("uint8", (3,))], [("bool", (3,))], 0, 9),
    "of unknown width": ("Cast", [("string", (3,))], [("int32", (3,))], 0, 24),
    "transposed convolution of nothing": ("ConvTranspose", [], [("float", (1, 4, 10, 10))], 0, 1600),
    "transposed convolution without weights": (
        "ConvTranspose",
        [("float", (1, 6, 5, 5))],
        [("float", (1, 4, 10, 10))],
        0,
        4 * (150 + 400),
    ),
    "convolution without weights": ("Conv", [("float", (1, 3, 8, 8))], [("float", (1, 16, 8, 8))], 0, 4 * (192 + 1024)),
    "no shapes at all": ("Constant", [], [], 0, 0),
}


@pytest.mark.parametrize("case", MACS)
def test_multiplications_and_bytes(case: str) -> None:
    op, inputs, outputs, macs, moved = MACS[case]
    layer = only(event("n", op, inputs, outputs))
    assert (layer.name, layer.kind, layer.macs, layer.bytes) == ("n", op, macs, moved)


@pytest.mark.parametrize(
    ("inputs", "precision"),
    [
        ([("float", (1, 2))], "fp32"),
        ([("float", ()), ("uint8", (4,))], "int8"),
        ([("int8", (4,)), ("float", (4,))], "int8"),
        ([("float16", (4,))], "fp16"),
        ([("int64", (4,))], "int64"),
        ([("float", ())], "none"),
        ([], "none"),
    ],
)
def test_precision_is_that_of_the_first_input_with_a_shape(inputs: list[Typed], precision: str) -> None:
    assert only(event("n", "Add", inputs, [("float", (4,))])).precision == precision


def test_time_is_the_median_of_the_last_runs() -> None:
    shapes: list[Typed] = [("float", (4,))]
    warm = [event("n", "Relu", shapes, shapes, us) for us in (9000.0, 8000.0)]
    runs = [event("n", "Relu", shapes, shapes, us) for us in (5000.0, 1000.0, 2000.0, 4000.0, 3000.0)]
    noise: list[dict[str, Any]] = [
        {"cat": "Session", "name": "n_kernel_time", "dur": 1, "args": {}},
        {"cat": "Node", "name": "n_fence"},
    ]
    assert only(*warm, *noise, *runs).time_ms == 3.0


def test_nodes_of_one_name_stay_apart() -> None:
    shapes: list[Typed] = [("float", (4,))]
    first, second = _layers(
        [event("n", "Relu", shapes, shapes, 1000.0, 1), event("n", "Relu", shapes, shapes, 3000.0, 2)],
        NO_GRAPH,
        NO_GRAPH,
        5,
    )
    assert (first.time_ms, second.time_ms) == (1.0, 3.0)


def test_packed_weights_are_found_in_the_graph() -> None:
    """A blocked convolution shows padded shapes; the file's own convolution says how many channels there are."""
    blocked = event("act_nchwc", "Conv", [("float", (1, 8, 4, 4))], [("float", (1, 16, 4, 4))])
    graph = listing(("act_nchwc", "Conv", ["x", "packed", "bias"], ["y"]), packed=(16, 8, 3, 3), bias=(16,))
    original = listing(
        ("conv", "Conv", ["image", "w", "b"], ["sum"]),
        ("relu", "Relu", ["sum"], ["act"]),
        w=(10, 3, 3, 3),
        b=(10,),
    )
    layer = only(blocked, graph=graph, original=original)
    assert layer.macs == 10 * 16 * 3 * 9
    assert layer.bytes == 4 * (128 + 256 + 10 * 3 * 9)


def test_weights_that_the_trace_shows_are_counted_once() -> None:
    graph = listing(("n", "Conv", ["x", "w", "b"], ["y"]), w=(16, 3, 3, 3), b=(16,))
    inputs: list[Typed] = [("float", (1, 3, 8, 8)), ("float", (16, 3, 3, 3)), ("float", (16,))]
    shown = only(event("n", "Conv", inputs, [("float", (1, 16, 8, 8))]), graph=graph)
    assert (shown.macs, shown.bytes) == (16 * 64 * 27, 4 * (192 + 432 + 16 + 1024))
    hidden = only(event("n", "Conv", inputs[:1], [("float", (1, 16, 8, 8))]), graph=graph)
    assert (hidden.macs, hidden.bytes) == (16 * 64 * 27, 4 * (192 + 432 + 1024))


def test_packed_weights_of_eight_bits_are_a_byte_each() -> None:
    graph = listing(("q", "QLinearConv", ["x", "s", "w"], ["y"]), s=(), w=(16, 3, 3, 3))
    layer = only(event("q", "QLinearConv", [("uint8", (1, 3, 8, 8))], [("uint8", (1, 16, 8, 8))]), graph=graph)
    assert (layer.macs, layer.bytes) == (16 * 64 * 27, 192 + 432 + 1024)


def test_constants_of_what_multiplies_nothing_are_not_weights() -> None:
    graph = listing(("n", "Add", ["x", "c"], ["y"]), c=(4, 4, 4))
    assert only(event("n", "Add", [("float", (4,))], [("float", (4,))]), graph=graph).bytes == 32


@pytest.mark.parametrize(
    ("weights", "inputs", "macs"),
    [
        ((8, 4, 3), [(1, 4, 10)], 80 * 12),
        ((8, 12), [(1, 4, 10), (8, 4, 3)], 80 * 12),
        ((8,), [(1, 4, 10), (8, 4, 3)], 80 * 12),
        ((8, 12), [(1, 4, 10)], 0),
    ],
    ids=["in one dimension", "packed as a matrix", "only its scale is a constant", "nothing but a matrix"],
)
def test_weights_of_a_convolution_have_three_dimensions_or_more(
    weights: tuple[int, ...], inputs: list[tuple[int, ...]], macs: int
) -> None:
    graph = listing(("n", "Conv", ["x", "w"], ["y"]), w=weights)
    shapes: list[Typed] = [("float", shape) for shape in inputs]
    assert only(event("n", "Conv", shapes, [("float", (1, 8, 10))]), graph=graph).macs == macs


def test_a_blocked_convolution_whose_weights_nothing_tells() -> None:
    original = listing(("conv", "Conv", ["image", "w"], ["act"]), w=(10, 3, 3, 3))
    blocked = event("act_nchwc", "Conv", [("float", (1, 8, 4, 4))], [("float", (1, 16, 4, 4))])
    assert only(blocked, original=original).macs == 0


@pytest.mark.parametrize(("between", "found"), [(0, True), (3, True), (4, False)])
def test_weights_lie_a_few_nodes_before_the_output(between: int, found: bool) -> None:
    steps = [(f"n{i}", "Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(between)]
    original = listing(("conv", "Conv", ["image", "w"], ["t0"]), *steps, w=(16, 3, 3, 3))
    blocked = event(f"t{between}_nchwc", "Conv", [("float", (1, 8, 4, 4))], [("float", (1, 16, 4, 4))])
    graph = listing((f"t{between}_nchwc", "Conv", ["x", "packed"], ["y"]), packed=(16, 8, 3, 3))
    assert only(blocked, graph=graph, original=original).macs == 16 * 16 * 9 * (3 if found else 8)


def test_the_search_for_weights_ends_at_a_convolution() -> None:
    original = listing(
        ("first", "Conv", ["image", "v"], ["t"]),
        ("second", "Conv", ["t", "w"], ["act"]),
        v=(9, 3, 3, 3),
        w=(9, 9, 1, 1),
    )
    blocked = event("act_nchwc", "Conv", [("float", (1, 8, 4, 4))], [("float", (1, 16, 4, 4))])
    graph = listing(("act_nchwc", "Conv", ["x", "packed"], ["y"]), packed=(16, 8, 3, 3))
    assert only(blocked, graph=graph, original=original).macs == 16 * 16 * 8 * 9


@pytest.mark.parametrize("w", [(10, 3, 5, 5), (17, 3, 3, 3)], ids=["another kernel", "more channels than padded"])
def test_weights_of_another_convolution_are_not_taken(w: tuple[int, ...]) -> None:
    blocked = event("act_nchwc", "Conv", [("float", (1, 8, 4, 4))], [("float", (1, 16, 4, 4))])
    graph = listing(("act_nchwc", "Conv", ["x", "packed"], ["y"]), packed=(16, 8, 3, 3))
    original = listing(("conv", "Conv", ["image", "w"], ["act"]), w=w)
    assert only(blocked, graph=graph, original=original).macs == 16 * 16 * 8 * 9


def test_channels_last_output_is_not_taken_for_a_padded_one() -> None:
    layer = only(
        event("n", "NhwcFusedConv", [("float", (1, 20, 20, 3)), ("float", (8, 3, 3, 3))], [("float", (1, 20, 20, 8))])
    )
    assert layer.macs == 20 * 20 * 8 * 27


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "macs"),
    [
        ("Convolution", [[1, 3, 8, 8], [16, 3, 3, 3]], [1, 16, 8, 8], 16 * 64 * 27),
        ("Convolution", [[1, 8, 4, 4], [4, 2, 2, 3, 3]], [1, 8, 4, 4], 8 * 16 * 2 * 9),
        ("Convolution", [[1, 3, 8, 8]], [1, 16, 8, 8], 0),
        ("Deconvolution", [[1, 6, 5, 5], [6, 4, 2, 2]], [1, 4, 10, 10], 6 * 25 * 4 * 4),
        ("FullyConnected", [[7, 5], [3, 5]], [7, 3], 105),
        ("MatMul", [[7, 5], [5, 3]], [7, 3], 105),
        ("MatMul", [], [7, 3], 0),
        ("Pooling", [[1, 3, 8, 8], [1, 1, 1, 1]], [1, 3, 4, 4], 0),
    ],
)
def test_multiplications_of_openvino(kind: str, inputs: list[list[int]], output: list[int], macs: int) -> None:
    assert openvino_macs(kind, inputs, output) == macs


def test_multiplications_of_a_convolution() -> None:
    assert convolution_macs((1, 16, 5, 7), (16, 4, 3, 1)) == 16 * 35 * 4 * 3
    assert convolution_macs((2, 16, 5, 7), (4, 4, 4, 3, 1), grouped=True) == 2 * 16 * 35 * 4 * 3
