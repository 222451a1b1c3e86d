"""A foreign file meets each engine in a child process before this one loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_export.foreign import read_foreign, trials
from edgedet_export.foreign.trials import engines_that_survive
from edgedet_runtime.errors import EngineDeathError, EngineError, ModelFileError
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx


def foreign_file(path: Path, *extra: onnx.NodeProto, opset: int = 17) -> Path:
    """Write a network of one convolution, with further nodes that hang on nothing."""
    weights = [
        numpy_helper.from_array(np.zeros((4, 3, 8, 8), np.float32), "w"),
        numpy_helper.from_array(np.array([1 << 38], np.int64), "size"),
    ]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8]), *extra]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for node in nodes for name in node.output]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_a_file_that_takes_all_memory(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "far.onnx", helper.make_node("ConstantOfShape", ["size"], ["far"]))
    with pytest.raises(EngineDeathError, match=r"far\.onnx: .* in a trial process onnxruntime took more than the"):
        read_foreign(path, family="yolox")


def test_a_file_that_onnxruntime_refuses(tmp_path: Path) -> None:
    path = foreign_file(tmp_path / "odd.onnx", helper.make_node("Transpose", ["y"], ["z"], perm=[0, 1, 2]))
    with pytest.raises(ModelFileError, match=r"odd\.onnx: expected what onnxruntime can run, got: .*perm"):
        read_foreign(path, family="yolox")


def test_engines_of_a_network_that_is_well(tmp_path: Path) -> None:
    model = onnx.load(str(tiny_onnx(tmp_path / "model.onnx")))
    assert engines_that_survive(model, TINY_SPEC, ("onnxruntime", "opencv")) == (("onnxruntime", "opencv"), ())


def test_an_engine_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(engine: str, *_: object, **__: object) -> None:
        if engine == "opencv":
            raise EngineDeathError("died of a signal")
        raise EngineError("no kernel")

    monkeypatch.setattr(trials, "try_in_child", trial)
    model = onnx.load(str(tiny_onnx(tmp_path / "model.onnx")))
    left = engines_that_survive(model, TINY_SPEC, ("onnxruntime", "opencv"), optional=("opencv",))
    assert left == (("onnxruntime",), ("opencv: left out: died of a signal",))
    with pytest.raises(EngineDeathError, match="died of a signal"):
        engines_that_survive(model, TINY_SPEC, ("onnxruntime", "opencv"))
