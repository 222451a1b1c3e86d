"""Counting an ONNX file's cost by the convention that modules are counted by."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgedet_export.fuse import fuse
from edgedet_export.onnx_complexity import count_onnx
from edgedet_export.to_onnx import to_onnx
from edgedet_models.complexity import count
from tests.export.tiny import TinyDetector, tiny_spec

SIZE_HW = (64, 96)


def test_same_figures_as_the_module() -> None:
    fused, _ = fuse(TinyDetector(tiny_spec(size_hw=SIZE_HW)), torch.rand(1, 3, *SIZE_HW))
    found, expected = count_onnx(to_onnx(fused)), count(fused, SIZE_HW)
    assert found == expected


class Mixed(nn.Module):
    """One of each kind that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2, 2)
        self.grouped = nn.Conv2d(4, 8, 3, 2, 1, groups=2, bias=False)
        self.act = nn.LeakyReLU(0.1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.twice = nn.Upsample(scale_factor=2, mode="nearest")
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.pool(self.act(self.grouped(self.up(x)))))
        out: Tensor = self.linear(self.mean(x).flatten(1))
        return out


def test_each_kind_of_layer(tmp_path: object) -> None:
    module = Mixed().eval()
    path = f"{tmp_path}/mixed.onnx"
    torch.onnx.export(module, (torch.rand(1, 3, 8, 12),), path, opset_version=17, dynamo=False)
    found, expected = count_onnx(onnx.load(path)), count(module, (8, 12))
    assert found is not None
    assert (found.params, found.macs) == (expected.params, expected.macs)
    assert found.memory_access_bytes == expected.memory_access_bytes


@pytest.mark.parametrize(("height", "macs"), [(4, 2 * 3 * 4 * 6 + 2 * 2 * 4 * 6), (None, None)])
def test_norms_that_are_left_and_open_sizes(height: int | None, macs: int | None) -> None:
    ones = np.ones(2, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
            helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, height, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")]
        + [numpy_helper.from_array(ones, name) for name in ("scale", "shift", "mean", "var")],
    )
    found = count_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    if macs is None:
        assert found is None
    else:
        assert found is not None
        assert (found.params, found.macs) == (6 + 4, macs)
