"""Outputs of engines that are not usual: of mixed types, of open sizes, within the graph; and failures of engines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedet_runtime.choices import EngineName
from edgedet_runtime.engines import load_engine, opencv_engine, openvino_engine
from edgedet_runtime.engines.model_source import ModelContent, content_of, label
from edgedet_runtime.engines.onnxruntime_engine import OnnxRuntimeEngine
from edgedet_runtime.engines.opencv_engine import OpenCvEngine
from edgedet_runtime.engines.openvino_engine import OpenVinoEngine, compile_on_cpu
from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import DecodeSpec, LevelSpec, ModelSpec
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx

SMALL = dataclasses.replace(TINY_SPEC.input, height=2, width=3)
TENSOR = np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3)


def graph_of(path: Path, nodes: list[Any], outputs: list[tuple[str, int, list[Any]]]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 2, 3, 3])],
        [helper.make_tensor_value_info(*output) for output in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


ENGINES: dict[str, Any] = {"onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine}


def rows(*names: str) -> ModelSpec:
    first, second = (*names, names[0])[:2]
    return TINY_SPEC.replace(input=SMALL, decode=DecodeSpec("decoded", (LevelSpec(1, boxes=first, scores=second),)))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_as_many_rows_as_a_picture_has(name: EngineName, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("NonZero", ["values"], ["where"]),
        helper.make_node("Cast", ["where"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["as_float"], ["rows"]),
    ]
    path = graph_of(tmp_path / "open.onnx", nodes, [("rows", TensorProto.FLOAT, ["n", 4])])
    engine = ENGINES[name](path, rows("rows"), 1)
    tensor = np.zeros((1, 2, 3, 3), np.uint8)
    for places in ([(0, 0, 0, 1)], [(0, 0, 2, 1), (0, 1, 0, 0), (0, 1, 2, 2)], []):
        tensor[:] = 0
        for place in places:
            tensor[place] = 7
        (found,) = engine.infer(tensor)
        np.testing.assert_array_equal(found, np.reshape(places, (-1, 4)))
        assert found.dtype == np.float32


def test_onnxruntime_gives_floats_whatever_the_types(tmp_path: Path) -> None:
    """One output of whole numbers beside one of floats."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["image"], ["wholes"], to=TensorProto.INT64),
    ]
    outputs: list[tuple[str, int, list[Any]]] = [
        ("floats", TensorProto.FLOAT, [1, 2, 3, 3]),
        ("wholes", TensorProto.INT64, [1, 2, 3, 3]),
    ]
    path = graph_of(tmp_path / "mixed.onnx", nodes, outputs)
    for names in (("floats", "wholes"), ("wholes", "floats")):
        engine = OnnxRuntimeEngine(path, rows(*names), 1)
        for tensor in (TENSOR, TENSOR + 1):
            found = engine.infer(tensor)
            assert [a.dtype for a in found] == [np.float32] * 2
            for array in found:
                np.testing.assert_array_equal(array, tensor)


def test_openvino_gives_tensors_from_within_the_graph(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["inside"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["inside"], ["end"]),
    ]
    path = graph_of(tmp_path / "m.onnx", nodes, [("end", TensorProto.FLOAT, [1, 2, 3, 3])])
    spec = rows("inside", "end")
    engine = OpenVinoEngine(path, spec, 1, inner=True)
    inside, end = engine.infer(TENSOR)
    np.testing.assert_array_equal(inside, TENSOR)
    np.testing.assert_array_equal(end, -TENSOR.astype(np.float32))
    with pytest.raises(EngineError, match="the file and its spec do not fit"):
        OpenVinoEngine(path, spec, 1)
    assert len(compile_on_cpu(path, 1).outputs) == len(compile_on_cpu(path, 1, also=["end"]).outputs) == 1


def test_how_openvino_runs(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "m.onnx")
    usual, profiled = compile_on_cpu(path, 2), compile_on_cpu(path, 1, profiled=True)
    assert (usual.get_property("NUM_STREAMS"), usual.get_property("INFERENCE_NUM_THREADS")) == (1, 2)
    assert (usual.get_property("PERF_COUNT"), profiled.get_property("PERF_COUNT")) == ("NO", "YES")


def test_openvino_that_would_not_compute_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = SimpleNamespace(
        create_infer_request=lambda: None,
        get_property=lambda _: SimpleNamespace(get_type_name=lambda: "bf16"),
    )
    monkeypatch.setattr(openvino_engine, "compile_on_cpu", lambda *_, **__: compiled)
    with pytest.raises(EngineError, match=r"openvino \d[\d.]+: expected to compute in f32, would use bf16$"):
        OpenVinoEngine(tmp_path / "m.onnx", TINY_SPEC, 1)

    def refuse(_: str) -> None:
        raise RuntimeError("check failed at a.cpp:7\n\nno such property\n")

    compiled.get_property = refuse
    with pytest.raises(EngineError, match=r"openvino \d[\d.]+ cannot load .*m\.onnx: no such property$"):
        OpenVinoEngine(tmp_path / "m.onnx", TINY_SPEC, 1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "opencv"])
def test_an_engine_that_fails_while_it_runs(name: EngineName, tmp_path: Path) -> None:
    """Its own error becomes one line, and one that is closed says so."""

    class Broken:
        def __getattr__(self, _: str) -> Any:
            error = cv2.error if name == "opencv" else RuntimeError
            raise error("out of order\n" if name == "onnxruntime" else "somewhere\nout of order\n")

    engine: Any = load_engine(name, tiny_onnx(tmp_path / "m.onnx"), TINY_SPEC, threads=1)
    tensor = np.zeros((1, 64, 96, 3), np.uint8)
    attribute = {"onnxruntime": "_session", "openvino": "_request", "opencv": "_net"}[name]
    setattr(engine, attribute, Broken())
    with pytest.raises(EngineError, match=rf"^{name} \d\S+ failed: (somewhere )?out of order$"):
        engine.infer(tensor)
    for _ in range(2):
        engine.close()
    with pytest.raises(EngineError, match=f"^{name}: the engine is closed; load the model again$"):
        engine.infer(tensor)


def test_opencv_runs_final_boxes_that_are_not_suppressed_in_the_graph(tmp_path: Path) -> None:
    levels = (dataclasses.replace(TINY_SPEC.decode.levels[0], objectness=None),)
    path = tiny_onnx(tmp_path / "m.onnx")
    for kind, suppression, taken in (("nms", "none", True), ("decoded", "nms", True), ("nms", "nms", False)):
        spec = TINY_SPEC.replace(decode=DecodeSpec(kind, levels, score="cls", suppression=suppression))  # type: ignore[arg-type]
        if taken:
            assert OpenCvEngine(path, spec, 1).name == "opencv"
        else:
            with pytest.raises(EngineError, match="its graph suppresses boxes"):
                OpenCvEngine(path, spec, 1)


def test_reasons_of_opencv_on_one_line() -> None:
    assert opencv_engine._reason(cv2.error("a  b\nc")) == "a b c"
    told = cv2.error("OpenCV(5) x.cpp:7: error: (-2) why\n")
    told.err = "why\n not"
    assert opencv_engine._reason(told) == "why not"


def test_reasons_of_openvino() -> None:
    assert openvino_engine._last_line(RuntimeError("a\n\n b \n\n")) == "b"
    assert openvino_engine._last_line(RuntimeError(" \n")) == "RuntimeError"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_model_in_memory_is_run_like_its_file(name: EngineName, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "m.onnx")
    content = path.read_bytes()
    tensor = np.full((1, 64, 96, 3), 90, np.uint8)
    expected = [a.copy() for a in load_engine(name, path, TINY_SPEC, threads=1).infer(tensor)]
    path.unlink()
    for source in (content, ModelContent(path, content)):
        found = load_engine(name, source, TINY_SPEC, threads=1).infer(tensor)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_model_in_memory_is_not_shown_in_full() -> None:
    content = ModelContent(Path("a.xml"), b"secret", b"weights")
    assert "secret" not in repr(content)
    assert "weights" not in repr(content).replace("weights=", "")
    assert (label(content), label(b"x"), label(Path("b"))) == ("a.xml", "the model in memory", "b")
    assert (content_of(content), content_of(b"x"), content_of(Path("b"))) == (b"secret", b"x", None)
    assert ModelContent(Path("a"), b"x").weights is None


def test_an_ir_in_memory_takes_its_weights_along(tmp_path: Path) -> None:
    import openvino as ov

    path = tiny_onnx(tmp_path / "m.onnx")
    ov.save_model(ov.Core().read_model(path), tmp_path / "m.xml", compress_to_fp16=False)
    tensor = np.full((1, 64, 96, 3), 90, np.uint8)
    content = ModelContent(tmp_path / "m.xml", (tmp_path / "m.xml").read_bytes(), (tmp_path / "m.bin").read_bytes())
    expected = [a.copy() for a in OpenVinoEngine(path, TINY_SPEC, 1).infer(tensor)]
    for got, want in zip(OpenVinoEngine(content, TINY_SPEC, 1).infer(tensor), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)
