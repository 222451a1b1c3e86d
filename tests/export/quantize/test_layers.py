"""Layers: what a convolution is, what it costs, and which tensors are bytes."""

from __future__ import annotations

import pytest

from edgedet_export.graph.edits import by_name
from edgedet_export.quantize.layers import ConvLayer, byte_source, find_layers, total_macs
from edgedet_runtime.errors import ModelFileError

from .small_graphs import small_model


def test_convolutions_of_both_kinds() -> None:
    model = small_model(
        "(float[3,4,8,6] x, float[2,4,1,1] computed) => (float[] y, float[] z, float[] u)"
        "{ a = Conv<strides=[2,1], pads=[1,1,1,1]>(x, w, b) y = Neg(a) z = ConvTranspose<strides=[2,2]>(x, t)"
        " u = Conv(x, computed) }", w=(6, 4, 3, 3), b=(6,), t=(4, 5, 1, 1),
    )  # fmt: skip
    layers = find_layers(model.graph)
    assert layers == (
        ConvLayer("a", "Conv", "x", "w", "b", (6, 4, 3, 3), 1, 6 * 4 * 6 * 4 * 9, is_head=False, is_pointwise=False),
        ConvLayer(
            "z", "ConvTranspose", "x", "t", None, (4, 5, 1, 1), 1, 4 * 8 * 6 * 5, is_head=True, is_pointwise=False
        ),
    ), "per picture, not per batch; weights that are computed are none"
    assert total_macs(layers) == 6 * 4 * 6 * 4 * 9 + 4 * 8 * 6 * 5


@pytest.mark.parametrize(
    ("weights", "groups", "depthwise"),
    [((4, 1, 3, 3), 4, True), ((8, 1, 3, 3), 4, True), ((4, 2, 3, 3), 2, False), ((4, 4, 3, 3), 1, False)],
)
def test_depthwise(weights: tuple[int, ...], groups: int, depthwise: bool) -> None:
    model = small_model(f"(float[1,4,8,8] x) => (float[] y) {{ y = Conv<group={groups}>(x, w) }}", w=weights)
    (layer,) = find_layers(model.graph)
    assert (layer.is_depthwise, layer.groups) == (depthwise, groups)


def test_one_input_channel_in_one_group_is_not_depthwise() -> None:
    (layer,) = find_layers(small_model("(float[1,1,8,8] x) => (float[] y) { y = Conv(x, w) }", w=(4, 1, 3, 3)).graph)
    assert not layer.is_depthwise


@pytest.mark.parametrize(
    ("node", "pointwise"),
    [
        ("Conv(x, w)", True),
        ("Conv<strides=[1,1], pads=[0,0,0,0], group=1>(x, w)", True),
        ("ConvTranspose(x, w)", False),
        ("Conv<strides=[1,2]>(x, w)", False),
        ("Conv<pads=[0,0,1,0]>(x, w)", False),
        ("Conv<group=4>(x, g)", False),
        ('Conv<auto_pad="VALID">(x, w)', False),
    ],
)
def test_pointwise(node: str, pointwise: bool) -> None:
    model = small_model(f"(float[1,4,8,8] x) => (float[] y) {{ y = {node} }}", w=(4, 4, 1, 1), g=(4, 1, 1, 1))
    assert find_layers(model.graph)[0].is_pointwise is pointwise
    line = small_model("(float[1,4,8] x) => (float[] y) { y = Conv(x, w) }", w=(4, 4, 1))
    assert (find_layers(line.graph)[0].is_pointwise, find_layers(line.graph)[0].macs) == (False, 8 * 16)


def test_a_size_that_is_not_known_and_a_network_without_layers_are_refused() -> None:
    with pytest.raises(ModelFileError, match="the size of y is not known"):
        find_layers(small_model("(float[1,4,h,8] x) => (float[] y) { y = Conv(x, w) }", w=(4, 4, 1, 1)).graph)
    any_batch = small_model("(float[n,4,8,8] x) => (float[] y) { y = Conv(x, w) }", w=(4, 4, 1, 1))
    assert find_layers(any_batch.graph)[0].macs == 64 * 16
    with pytest.raises(ModelFileError, match="expected convolutions with constant weights, found none"):
        find_layers(small_model("(float[1,4,8,8] x) => (float[] y) { y = Neg(x) }").graph)


@pytest.mark.parametrize(
    ("nodes", "is_byte"),
    [
        ("t = Cast<to=1>(x)", True),
        ("f = Cast<to=1>(x) t = Transpose<perm=[0,3,1,2]>(f)", True),
        ("p = Transpose<perm=[0,3,1,2]>(x) t = Cast<to=1>(p)", True),
        ("f = Cast<to=1>(x) s = Identity(f) m = MaxPool<kernel_shape=[2,2]>(s) t = Flatten(m)", True),
        ("f = Cast<to=1>(x) g = Identity(f) t = Concat<axis=1>(f, g)", True),
        ("f = Cast<to=1>(x) g = Neg(f) t = Concat<axis=1>(f, g)", False),
        ("f = Cast<to=1>(x) g = Neg(f) t = Concat<axis=1>(g, f)", False),
        ("f = Cast<to=1>(x) t = Neg(f)", False),
        ("f = Cast<to=1>(x) n = Neg(f) t = Identity(n)", False),
        ("f = Cast<to=1>(x) s = AveragePool<kernel_shape=[2,2]>(f) t = Identity(s)", False),
        ("i = Cast<to=3>(x) t = Cast<to=1>(i)", False),
        ("t = Identity(y)", False),
    ],
)
def test_bytes_that_were_only_moved(nodes: str, is_byte: bool) -> None:
    model = small_model(f"(uint8[1,4,4,4] x, float[1,4,4,4] y) => (float[] t) {{ {nodes} }}")
    assert byte_source(by_name(model.graph)["t"]) is is_byte
    assert not byte_source(model.graph.inputs[0])
