"""Which Resize repeats cells, and that copies of codes are what it gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.edits import NewTensors, set_outputs
from edgedet_export.quantize.integer_islands import repeat_factors, repeated_codes
from edgedet_export.quantize.runner import onnx_runner

SHAPE = (1, 2, 3, 4)


def resized(
    size: tuple[int, ...],
    coordinates: str | None = "asymmetric",
    nearest: str | None = "floor",
    mode: str = "nearest",
    shape: tuple[int | None, ...] | None = SHAPE,
) -> ir.Graph:
    """Return x → Resize → out, to a size."""
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest, "mode": mode}
    given = {key: value for key, value in attributes.items() if value is not None}
    node = helper.make_node("Resize", ["x", "", "", "size"], ["out"], **given)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", shape), ("out", size))
    ]
    constant = numpy_helper.from_array(np.array(size, np.int64), "size")
    graph = helper.make_graph([node], "resize", values[:1], values[1:], [constant])
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)).graph


@pytest.mark.parametrize(
    ("graph", "factors"),
    [
        (resized((1, 2, 6, 8)), (2, 2)),
        (resized((1, 2, 3, 16)), (1, 4)),
        (resized((1, 2, 12, 4)), (4, 1)),
        (resized((1, 2, 15, 8)), None),  # copies of five are no gain
        (resized((1, 2, 6, 20)), None),
        (resized((1, 2, 7, 8)), None),
        (resized((1, 2, 6, 9)), None),
        (resized((1, 4, 6, 8)), None),
        (resized((2, 2, 6, 8)), None),
        (resized((2, 2, 6, 8), shape=(2, 2, 3, 4)), None),
        (resized((1, 2, 6, 8), shape=(1, 2, None, 4)), None),
        (resized((1, 2, 6, 8), shape=None), None),
        (resized((1, 2, 6, 8), mode="linear"), None),
        (resized((1, 2, 6, 8), "half_pixel", "round_prefer_floor"), (2, 2)),
        (resized((1, 2, 9, 4), "half_pixel", "round_prefer_ceil"), (3, 1)),
        (resized((1, 2, 12, 8), "half_pixel", "round_prefer_ceil"), None),  # four: samples fall on borders
        (resized((1, 2, 6, 8), "half_pixel", "floor"), None),
        (resized((1, 2, 6, 8), "align_corners", "floor"), None),
        (resized((1, 2, 6, 8), None, None), (2, 2)),  # ONNX's defaults
    ],
)
def test_repeat_factors(graph: ir.Graph, factors: tuple[int, int] | None) -> None:
    (node,) = graph
    assert repeat_factors(node) == factors


def test_other_nodes_repeat_nothing() -> None:
    graph = resized((1, 2, 6, 8))
    assert repeat_factors(None) is None
    graph[0].op_type = "Upsample"
    assert repeat_factors(graph[0]) is None


@pytest.mark.parametrize("factors", [(2, 2), (1, 3), (4, 1)])
def test_copies_are_what_a_resize_gives(factors: tuple[int, int]) -> None:
    rows, columns = factors
    size = (1, 2, 3 * rows, 4 * columns)
    codes = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    given, made = (ir.val(name, ir.DataType.UINT8, dims) for name, dims in (("x", SHAPE), ("out", size)))
    graph = ir.Graph([given], [], nodes=[], opset_imports={"": 13}, name="copies")
    graph.extend(repeated_codes(NewTensors(graph), given, SHAPE, factors, made))
    set_outputs(graph, [made])
    model = to_proto(ir.Model(graph, ir_version=8))
    onnx.checker.check_model(model, full_check=True)
    found = onnx_runner(model, threads=1)(codes)["out"]
    np.testing.assert_array_equal(found, codes.repeat(rows, axis=2).repeat(columns, axis=3))
