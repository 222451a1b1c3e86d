"""How ranges grow with the pictures, and how many pictures were enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedet_export.graph.conversion import from_proto
from edgedet_export.quantize.calibration import Calibration, calibrate
from edgedet_runtime.errors import InputError

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
