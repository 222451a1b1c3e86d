"""How ranges grow with the pictures, and how many pictures were enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.graph.conversion import from_proto
from edgedet_export.quantize.calibration import Calibration, calibrate, float_tensors
from edgedet_runtime.errors import InputError

from .small_graphs import small_model

SHAPE = [1, 1, 64, 64]


def calibrated(widths: Sequence[float]) -> Calibration:
    """Calibrate a network that passes its input on, with evenly spread numbers from 0 to each width."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "pass", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(SHAPE)
    ramp += np.float32(0.25) * (not np.isfinite(widths).all())  # 0 times infinity is NaN
    return calibrate(from_proto(model), [ramp * np.float32(width) for width in widths], threads=1)


@pytest.mark.parametrize(
    ("widths", "growth", "enough"),
    [
        ([1, 2, 2, 2], [(1, 1.0), (2, 0.5), (4, 0.0)], 2),
        ([2, 2, 2, 2], [(1, 1.0), (2, 0.0), (4, 0.0)], 1),
        ([1, 1, 1, 4], [(1, 1.0), (2, 0.0), (4, 0.75)], None),
        ([10, 10, 20, 20, 20], [(1, 1.0), (2, 0.0), (4, 0.5), (5, 0.0)], 4),
        ([3], [(1, 1.0)], None),
    ],
)
def test_growth(widths: list[float], growth: list[tuple[int, float]], enough: int | None) -> None:
    found = calibrated(widths)
    assert found.images == len(widths)
    assert [count for count, _ in found.growth] == [count for count, _ in growth]
    for (_, got), (_, expected) in zip(found.growth, growth, strict=True):
        assert got == pytest.approx(expected, abs=0.01)
    assert found.enough == enough


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    with pytest.raises(InputError, match="tensor x holds NaN or infinity in picture 1"):
        calibrated([1.0, number])


@pytest.mark.parametrize(("growth", "enough"), [(0.048, 1), (0.052, None)])
def test_growth_of_up_to_five_percent_is_none(growth: float, enough: int | None) -> None:
    found = calibrated([1 - growth, 1.0])
    assert found.growth[-1][1] == pytest.approx(growth, abs=1e-3)
    assert found.enough == enough


def test_one_in_twenty_tensors_may_grow() -> None:
    """Of 21 tensors the one that grows most is left out: 20 are cut at levels from 1 to 2, one is not cut."""
    cuts = np.linspace(1.0, 1.95, 20)
    nodes = [helper.make_node("Min", ["x", f"c{i}"], [f"t{i}"]) for i in range(20)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    outputs = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, SHAPE) for i in range(20)]
    constants = [numpy_helper.from_array(np.float32(cut), f"c{i}") for i, cut in enumerate(cuts)]
    graph = helper.make_graph(nodes, "cuts", [x], outputs, constants)
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(SHAPE)
    said: list[int] = []
    found = calibrate(model, [ramp, ramp * 4], threads=1, progress=said.append)
    assert said == [1, 2]
    assert found.growth[0] == (1, 1.0)
    assert found.growth[1][1] == pytest.approx(1 - 1 / 1.95, abs=2e-3), "not the 3/4 of x"


@pytest.mark.parametrize(("share", "grows"), [(0.0004, False), (0.0006, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_width_leaves_out_one_in_two_thousand_at_each_end(share: float, grows: bool, sign: int) -> None:
    ramp = np.linspace(-1, 1, 64 * 64 * 5, dtype=np.float32)
    wide = ramp.copy()
    far = round(share * 2 * wide.size)  # of both pictures together
    wide[np.random.default_rng(0).choice(wide.size, far, replace=False)] = 5.0 * sign
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, ramp.size]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "pass", values[:1], values[1:])
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    found = calibrate(model, [a.reshape(1, 1, -1) for a in (ramp, wide)], threads=1)
    assert found.growth[1][1] == pytest.approx(2 / 3 if grows else 0.0, abs=0.02)


def test_a_tensor_that_was_and_is_nothing_does_not_grow() -> None:
    found = calibrated([0.0, 0.0, 1.0])
    assert found.growth == ((1, 1.0), (2, 1.0), (3, 1.0)), "nothing to grow from"
    assert calibrated([1.0, 0.0]).growth[1][1] == pytest.approx(0.0, abs=1e-3), "zeros widen nothing"


def test_no_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="expected at least one picture, got none"):
        calibrated([])


def test_every_float_tensor_that_is_made_or_given_is_measured() -> None:
    model = small_model(
        "(uint8[1,2,2,3] x) => (float[] f, float[] y)"
        "{ k = Constant<value_float=2.0>() f = Cast<to=1>(x) m = Mul(f, k) s = Shape(m) y = Neg(m) }"
    )
    assert float_tensors(model.graph) == ["f", "m", "y"]
    found = calibrate(model, [np.full((1, 2, 2, 3), 7, np.uint8)], threads=1)
    assert list(found.statistics) == ["f", "m", "y"]
    assert (found.statistics["m"].low, found.statistics["y"].low) == (14.0, -14.0)
    given = small_model("(float[1,3,2,2] x) => (float[] y) { y = Neg(x) }")
    seen = calibrate(given, [np.full((1, 3, 2, 2), 5, np.float32)], threads=1).statistics
    assert {name: s.high for name, s in seen.items()} == {"x": 5.0, "y": -5.0}


def test_a_tensor_that_never_moves_hides_no_growth() -> None:
    model = small_model("(float[1,1,8,8] x) => (float[] y, float[] z) { y = Neg(x) z = Sub(x, x) }")
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    found = calibrate(model, [ramp, ramp], threads=1)
    assert found.growth == ((1, 1.0), (2, 0.0))
    assert found.enough == 1
