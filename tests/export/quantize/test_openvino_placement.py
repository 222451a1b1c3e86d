"""Where OpenVINO's grids are: at the inputs of convolutions, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from edgedet_export.quantize.layers import find_layers
from edgedet_export.quantize.number_format import NUMBER_FORMATS, CpuKind
from edgedet_export.quantize.plan import Grid, QuantPlan
from edgedet_export.quantize.targets import get_target

from .small_graphs import ranges_of, small_model

TEXT = (
    "(float[1,4,8,8] x) => (float[] y, float[] z, float[] u)"
    "{ a = Conv(x, w) t = Tanh(a) d = Conv<group=4>(t, g) y = Conv(t, v) z = Conv(d, v) u = ConvTranspose(d, v) }"
)


def place(text: str, *keep: str, cpu: CpuKind = "vnni", float_residuals: bool = False) -> QuantPlan:
    model = small_model(text, w=(4, 4, 3, 3), g=(4, 1, 3, 3), v=(4, 4, 1, 1))
    return get_target("openvino").place(
        model.graph,
        find_layers(model.graph),
        ranges_of(model, t=(-1, 3), d=(-5, 7), x=(-2, 2)),
        NUMBER_FORMATS[cpu],
        dict.fromkeys(keep, "asked"),
        float_residuals=float_residuals,
    )


def test_inputs_of_dense_convolutions() -> None:
    plan = place(TEXT)
    numbers = NUMBER_FORMATS["vnni"]
    assert plan.grids == {
        name: Grid.spanning(b, numbers) for name, b in {"x": (-2, 2), "t": (-1, 3), "d": (-5, 7)}.items()
    }
    assert plan.layers == ("a", "y", "z")
    assert [(k.layer, k.reason.split(":")[0], k.macs) for k in plan.kept] == [
        ("d", "depthwise", 4 * 4 * 4 * 9),
        ("u", "transposed convolution", 4 * 4 * 4 * 4),
    ]
    assert plan.everywhere == {"x", "t", "d"}
    assert (plan.integer_products, plan.bias, plan.copied_upsampling) == ((), "float32", False)
    assert plan.number_format == numbers
    assert place(TEXT, float_residuals=True).everywhere == frozenset()


def test_what_is_asked_for_stays_in_float() -> None:
    plan = place(TEXT, "a", "d")
    assert [(k.layer, k.reason) for k in plan.kept][:2] == [("a", "asked"), ("d", "asked")]
    assert plan.layers == ("y", "z")
    assert "x" not in plan.grids


@pytest.mark.parametrize(("cpu", "zero"), [("vnni", 0), ("dotprod", -128)])
def test_bytes_have_steps_of_one_and_a_bit(cpu: CpuKind, zero: int) -> None:
    """A step of 1 would be dropped as a multiplication by one, and the layer run in float."""
    text = "(uint8[1,8,8,4] x) => (float[] y) { p = Transpose<perm=[0,3,1,2]>(x) f = Cast<to=1>(p) y = Conv(f, w) }"
    (grid,) = place(text, cpu=cpu).grids.values()
    assert grid == Grid(1 + 2.0**-23, zero, cpu == "dotprod")
    assert np.float32(grid.scale) == grid.scale
