"""Files that cannot be used end in one line that says what was found and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgedet_export.foreign import read_foreign
from edgedet_runtime.errors import EdgedetError, ModelFileError
from tests.export.foreign.conftest import grid

Export = Callable[..., Path]
Build = Callable[..., nn.Module]


def model_of(
    nodes: list[onnx.NodeProto],
    output: str,
    constants: dict[str, np.ndarray[Any, Any]] | None = None,
    dims: tuple[int | str, ...] = (1, 3, 32, 32),
    domain: str = "",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(dims))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 13)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def refusal(source: Path | onnx.ModelProto, **options: Any) -> str:
    with pytest.raises(ModelFileError) as info:
        read_foreign(source, **options)
    text = str(info.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


WEIGHT = {"w": np.ones((8, 3, 1, 1), np.float32)}
CONV = helper.make_node("Conv", ["x", "w"], ["c"])


def test_garbage_truncated_and_empty(export: Export, point_detector: Build, tmp_path: Path) -> None:
    whole = export(point_detector("flat")).read_bytes()
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "tail": whole[:-3],
        "none": b"",
        "text": b"hello\n" * 99,
    }.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        assert str(path) in refusal(path, family="yolox")
    assert "no such file" in refusal(tmp_path / "absent.onnx")


def test_classifier() -> None:
    nodes = [CONV, helper.make_node("GlobalAveragePool", ["c"], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
    nodes.append(helper.make_node("Gemm", ["f", "g"], ["y"]))
    text = refusal(model_of(nodes, "y", WEIGHT | {"g": np.ones((8, 10), np.float32)}))
    assert "Gemm" in text
    assert "y [1, 10]" in text


def test_segmenter() -> None:
    text = refusal(model_of([CONV, helper.make_node("Softmax", ["c"], ["y"], axis=1)], "y", WEIGHT))
    assert "y [1, 8, 32, 32] from Softmax" in text
    assert "`family`" in text


def test_without_convolutions() -> None:
    assert "convolutional head" in refusal(model_of([helper.make_node("Relu", ["x"], ["y"])], "y"))


def test_custom_operators() -> None:
    nodes = [CONV, helper.make_node("EfficientNMS_TRT", ["c"], ["y"], domain="TRT")]
    assert "TRT::EfficientNMS_TRT" in refusal(model_of(nodes, "y", WEIGHT, domain="TRT"))
    nodes = [CONV, helper.make_node("NotAnOperator", ["c"], ["y"])]
    assert "NotAnOperator" in refusal(model_of(nodes, "y", WEIGHT))


def test_suppression_in_the_graph() -> None:
    nodes = [
        CONV,
        helper.make_node("Reshape", ["c", "shape"], ["boxes"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "k"], ["y"]),
    ]
    constants = WEIGHT | {
        "shape": np.array([1, -1, 4]),
        "scores": np.ones((1, 1, 2048), np.float32),
        "k": np.array([9]),
    }
    assert "the selection in the graph (NonMaxSuppression)" in refusal(model_of(nodes, "y", constants))


def test_quantised() -> None:
    constants = WEIGHT | {"s": np.array(0.1, np.float32), "z": np.array(0, np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["y"]),
    ]
    assert "give the FP32 file" in refusal(model_of(nodes, "y", constants))


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((4, 3, 32, 32), "batch 1"),
        ((1, 4, 32, 32), "3 channels or 1"),
        ((1, 3, 32), "an image"),
        ((1, 3, "h", "w"), "`imgsz`"),
        ((1, 3, 32, 33), "stride"),
    ],
)
def test_inputs(dims: tuple[int | str, ...], message: str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8])
    assert message in refusal(model_of([node], "y", WEIGHT, dims))


def test_two_inputs() -> None:
    model = model_of([CONV, helper.make_node("Mul", ["c", "scale"], ["y"])], "y", WEIGHT)
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    assert "scale 1" in refusal(model)


def test_missing_shape_inside_is_no_crash(export: Export, anchor_detector: Build) -> None:
    model = onnx.load(str(export(anchor_detector("decoded"))))
    del model.graph.value_info[:]
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    assert read_foreign(model).spec.family == "yolov5"


def test_names_that_are_no_text(export: Export, anchor_detector: Build, tmp_path: Path) -> None:
    data = export(anchor_detector("decoded")).read_bytes()
    path = tmp_path / "names.onnx"
    path.write_bytes(data.replace(b"trunk.stem", b"trunk\xffstem"))
    assert "UTF-8" in refusal(path)


def test_tensor_that_contradicts_itself() -> None:
    model = model_of([CONV, helper.make_node("Mul", ["c", "k"], ["y"])], "y", WEIGHT | {"k": np.ones(8, np.float32)})
    model.graph.initializer[1].dims[0] = 9
    assert "tensor k" in refusal(model)


@pytest.mark.slow
def test_damaged_bytes_never_escape_as_other_errors(
    export: Export, anchor_detector: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = export(anchor_detector("decoded")).read_bytes()
    rng = np.random.default_rng(0)
    messages: list[str] = []
    for number in range(60):
        data = np.frombuffer(whole, np.uint8).copy()
        where = rng.integers(0, len(data), 3)
        data[where] = rng.integers(0, 256, 3)
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(data.tobytes())
        try:
            read_foreign(path)
        except EdgedetError as e:
            messages.append(str(e))
    assert len(messages) > 20
    assert not [m for m in messages if "\n" in m]
    assert "EP Error" not in capfd.readouterr().out


def test_landmarks_beside_the_box(export: Export) -> None:
    class OneLevel(nn.Module):
        """A joint convolution per level: box, objectness, five points, one class."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 3 * 16, 8, 8)

        def forward(self, x: Tensor) -> Tensor:
            raw = self.head(x).view(1, 3, 16, 8, 12).permute(0, 1, 3, 4, 2)
            cells, y = grid(8, 12, raw), raw.sigmoid()
            box = torch.cat(((y[..., :2] * 2 - 0.5 + cells) * 8, (y[..., 2:4] * 2) ** 2 * 10), 4)
            points = (raw[..., 5:15] + cells.repeat(1, 1, 5)) * 8
            return torch.cat((box, y[..., 4:5], points, y[..., 15:]), 4).reshape(1, -1, 16)

    assert "5 landmarks per candidate" in refusal(export(OneLevel()))
