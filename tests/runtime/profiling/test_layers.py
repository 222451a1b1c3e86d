"""Layers as executed: counts against known networks, and precision read from kernels, not from claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedet_runtime.choices import EngineName
from edgedet_runtime.errors import EngineError, ModelFileError
from edgedet_runtime.profiling.layers import Layer, convolution_macs, int8_share, profile_layers
from edgedet_runtime.profiling.onnx_listing import read_listing

onnx = pytest.importorskip("onnx", reason="the graphs are made with the onnx package")


@pytest.fixture(scope="module")
def two_convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write conv 3->8 3x3, ReLU, depthwise 3x3 on 16x24 pixels."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    dense = random.standard_normal((8, 3, 3, 3)).astype(np.float32)
    depthwise = random.standard_normal((8, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="dense", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="act"),
        helper.make_node("Conv", ["b", "w1"], ["y"], name="depthwise", pads=[1, 1, 1, 1], group=8),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 16, 24])],
        [numpy_helper.from_array(dense, "w0"), numpy_helper.from_array(depthwise, "w1")],
    )
    path = tmp_path_factory.mktemp("layers") / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_graph_is_read_without_onnx(two_convolutions: Path) -> None:
    graph = read_listing(two_convolutions)
    assert [(node.name, node.op_type) for node in graph.nodes] == [
        ("dense", "Conv"),
        ("act", "Relu"),
        ("depthwise", "Conv"),
    ]
    assert graph.nodes[0].inputs == ("x", "w0")
    assert graph.weight_shapes == {"w0": (8, 3, 3, 3), "w1": (8, 1, 3, 3)}


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02garbage", b"\x3a\xff\xff\xff\xff\x0f"], ids=["empty", "pickle", "cut"]
)
def test_graph_refuses_what_is_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="expected an ONNX file"):
        read_listing(path)


MACS = 16 * 24 * 8 * (3 * 9) + 16 * 24 * 8 * 9


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_macs_and_precision_of_executed_layers(two_convolutions: Path, engine: EngineName) -> None:
    pytest.importorskip(engine)
    tensor = np.ones((1, 3, 16, 24), np.float32)
    layers = profile_layers(engine, two_convolutions, tensor, threads=1, runs=4)
    heavy = [layer for layer in layers if layer.macs]
    assert len(heavy) == 2
    assert sum(layer.macs for layer in heavy) == MACS
    assert {layer.precision for layer in heavy} == {"fp32"}
    first, second = sorted(heavy, key=lambda layer: -layer.macs)
    assert first.bytes >= 4 * 16 * 24 * (3 + 8) + 4 * 8 * 3 * 9, "what it reads, its weights, what it writes"
    assert second.bytes >= 4 * 16 * 24 * (8 + 8) + 4 * 8 * 9
    assert all(layer.time_ms >= 0 for layer in layers)
    assert sum(layer.time_ms for layer in layers) > 0
    assert int8_share(layers) == 0.0


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("groups", [1, 4, 16], ids=["dense", "grouped", "depthwise"])
def test_transposed_convolution_counts_its_input(tmp_path: Path, engine: EngineName, groups: int) -> None:
    """Each of the 16 x 10 x 12 inputs meets 16 / groups kernels of 4 x 4; the output is four times as large."""
    pytest.importorskip(engine)
    from onnx import TensorProto, helper, numpy_helper

    weights = np.ones((16, 16 // groups, 4, 4), np.float32)
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2, 2], pads=[1, 1, 1, 1], group=groups
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 10, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 20, 24])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "up.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    layers = profile_layers(engine, path, np.ones((1, 16, 10, 12), np.float32), threads=1, runs=4)
    assert sum(layer.macs for layer in layers) == 16 * 10 * 12 * (16 // groups) * 4 * 4


def test_int8_convolution_is_seen_as_int8(tmp_path: Path) -> None:
    """A QLinearConv is executed in INT8, and its packed weights still count."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.ones((4, 3, 3, 3), np.int8)
    constants = [
        numpy_helper.from_array(np.array(0.1, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.uint8), "zu"),
        numpy_helper.from_array(np.array(0, np.int8), "zi"),
        numpy_helper.from_array(weights, "w"),
    ]
    node = helper.make_node("QLinearConv", ["x", "s", "zu", "w", "s", "zi", "s", "zu"], ["y"], name="q")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 10, 12])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 4, 8, 10])],
        constants,
    )
    path = tmp_path / "q.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    layers = profile_layers("onnxruntime", path, np.zeros((1, 3, 10, 12), np.uint8), threads=1, runs=4)
    assert sum(layer.macs for layer in layers) == 8 * 10 * 4 * 27
    assert int8_share(layers) == 1.0


def test_primitive_tells_the_precision_where_the_claim_lies() -> None:
    from edgedet_runtime.profiling.layers_openvino import _precision

    assert _precision("brgconv_avx512_f32", "i8") == "fp32"
    assert _precision("jit_avx512_vnni_i8", "i8") == "int8"
    assert _precision("undef", "f32") == "fp32"


def test_engine_without_profiler(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected one of onnxruntime, openvino, got 'opencv'"):
        profile_layers("opencv", tmp_path / "x.onnx", np.zeros(1, np.float32), threads=1)


def test_broken_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"x\.onnx: expected an ONNX file, got a text file"):
        profile_layers("onnxruntime", path, np.zeros(1, np.float32), threads=1)


def test_a_file_that_the_engine_refuses_is_an_engine_error(two_convolutions: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    model = onnx.load(str(two_convolutions))
    model.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=r"onnxruntime .* cannot load .*x\.onnx"):
        profile_layers("onnxruntime", path, np.zeros(1, np.float32), threads=1)


def test_share_and_intensity() -> None:
    a = Layer("a", "Conv", "int8", 1.0, 300, 100)
    b = Layer("b", "Conv", "fp32", 1.0, 100, 400)
    assert int8_share([a, b]) == 0.75
    assert int8_share([]) == 0.0
    assert (a.intensity, b.intensity) == (6.0, 0.5)
    assert convolution_macs((1, 8, 4, 4), (8, 1, 1, 3, 3), grouped=True) == 8 * 16 * 9
