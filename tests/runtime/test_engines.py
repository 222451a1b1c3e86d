"""All engines by one template: the same outputs, the same refusals."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.choices import EngineName
from edgedet_runtime.engines import ENGINES, load_engine
from edgedet_runtime.errors import EngineError, InputError, MissingDependencyError
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import DecodeSpec, LevelSpec, ModelSpec
from tests.runtime.tiny_models import TINY_SPEC, random_image, tiny_onnx, with_input

RGB_255 = {"layout": "NCHW", "dtype": "float32", "color": "RGB", "scale": 1 / 255}
SPECS = {
    "uint8 NHWC": TINY_SPEC,
    "uint8 NCHW": with_input(layout="NCHW"),
    "float32 NCHW": with_input(**RGB_255),
}


def by_hand(path: Path, tensor: npt.NDArray[Any], spec: ModelSpec) -> list[npt.NDArray[np.float64]]:
    """Compute the tiny model in float64: a convolution whose stride equals its kernel is a product of patches."""
    import onnx
    from onnx import numpy_helper

    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer}
    x = tensor.astype(np.float64)
    if spec.input.dtype == "uint8":
        x = x / 255
    if spec.input.layout == "NHWC":
        x = x.transpose(0, 3, 1, 2)
    _, c, h, w = x.shape
    patches = x.reshape(c, h // 8, 8, w // 8, 8)
    return [
        np.einsum("chiwj,ocij->ohw", patches, weights[f"{n}_w"].astype(np.float64))[None]
        for n in spec.decode.output_names
    ]


@pytest.mark.parametrize("case", SPECS)
@pytest.mark.parametrize("name", ENGINES)
def test_outputs(name: EngineName, case: str, tmp_path: Path) -> None:
    spec = SPECS[case]
    path = tiny_onnx(tmp_path / "tiny.onnx", spec)
    engine = load_engine(name, path, spec, threads=1)
    preprocess = Preprocessor(spec.input, spec.resize)
    assert (engine.name, engine.precision_hint) == (name, "f32")
    assert engine.version[0].isdigit()
    for seed in (0, 1, 2):
        tensor, _ = preprocess(random_image(seed=seed))
        if seed == 2:
            tensor = tensor.copy()  # another array than the one that is bound
        outputs = engine.infer(tensor)
        expected = by_hand(path, tensor, spec)
        assert len(outputs) == len(expected)
        for got, want in zip(outputs, expected, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_a_wrong_tensor_never_reaches_native_code(name: EngineName, tmp_path: Path) -> None:
    engine = load_engine(name, tiny_onnx(tmp_path / "tiny.onnx"), TINY_SPEC, threads=1)
    good = np.zeros((1, 64, 96, 3), np.uint8)
    for bad in (good[0], good.astype(np.float32), good[:, ::2], np.asfortranarray(good + 1)):
        with pytest.raises(EngineError, match=r"input image: expected C-contiguous uint8 \(1, 64, 96, 3\)"):
            engine.infer(bad)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x3a\xff\xff\xff\x7f"])
def test_garbage_is_refused_in_one_line(name: EngineName, content: bytes, tmp_path: Path) -> None:
    from edgedet_runtime.errors import EdgedetError

    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(EdgedetError) as error:
        load_engine(name, path, TINY_SPEC, threads=1)
    assert "\n" not in str(error.value)
    assert "bad.onnx" in str(error.value)


def unknown_operator(path: Path) -> Path:
    import onnx

    model = onnx.load(tiny_onnx(path))
    model.graph.node[-1].op_type = "Unheard"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", ENGINES)
def test_a_refusal_begins_with_engine_and_version_and_tells_no_source_lines(name: EngineName, tmp_path: Path) -> None:
    path = unknown_operator(tmp_path / "odd.onnx")
    with pytest.raises(EngineError) as caught:
        load_engine(name, path, TINY_SPEC, threads=1)
    text = str(caught.value)
    assert re.match(rf"{name} \d+(\.\w+)+ cannot load {re.escape(str(path))}: .*Unheard", text), text
    assert "\n" not in text
    assert ".cpp:" not in text.partition("odd.onnx")[2]
    assert f"{path}: OpenCV(" not in text


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_spec_that_does_not_fit_the_file(name: EngineName, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "tiny.onnx")
    other = with_input(name="other")
    with pytest.raises(EngineError, match="expected input other"):
        load_engine(name, path, other, threads=1)
    level = LevelSpec(8, boxes="boxes", scores="labels", objectness="objectness")
    with pytest.raises(EngineError, match=r"expected .*labels.* do not fit"):
        load_engine(name, path, TINY_SPEC.replace(decode=DecodeSpec("points-exp", (level,))), threads=1)


@pytest.mark.parametrize(("name", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_named(
    name: EngineName, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_onnx(tmp_path / "tiny.onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"needs {package}.*pip install"):
        load_engine(name, path, TINY_SPEC, threads=1)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of onnxruntime, openvino, opencv, got 'tensorrt'"):
        load_engine(cast(EngineName, "tensorrt"), Path("x.onnx"), TINY_SPEC, threads=1)


def test_opencv_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "tiny.int8.onnx", quantised=True)
    with pytest.raises(EngineError, match="cannot run the quantized model"):
        load_engine("opencv", path, TINY_SPEC, threads=1)
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(EngineError, match=r"reads \.onnx files only"):
        load_engine("opencv", tmp_path / "model.xml", TINY_SPEC, threads=1)
    level = replace(TINY_SPEC.decode.levels[0], objectness=None, anchors_px=())
    suppressing = TINY_SPEC.replace(decode=DecodeSpec("nms", (level,), score="cls"))
    with pytest.raises(EngineError, match="its graph suppresses boxes"):
        load_engine("opencv", tiny_onnx(tmp_path / "tiny.onnx"), suppressing, threads=1)


def test_onnxruntime_runs_quantised_files_and_several_threads(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "tiny.int8.onnx", quantised=True)
    tensor, _ = Preprocessor(TINY_SPEC.input, TINY_SPEC.resize)(random_image())
    engine = load_engine("onnxruntime", path, TINY_SPEC, threads=2)
    for got, want in zip(engine.infer(tensor), by_hand(path, tensor, TINY_SPEC), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)  # k/255 is a point of its grid


def test_openvino_pins_its_precision(tmp_path: Path) -> None:
    from edgedet_runtime.engines.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(tiny_onnx(tmp_path / "tiny.onnx"), TINY_SPEC, 1)
    assert engine.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert engine.compiled.get_property("INFERENCE_NUM_THREADS") == 1


FIRST_PICTURES = """
import sys, threading
import numpy as np
from edgedet_runtime import Detector
detectors = [Detector(sys.argv[1], engine="openvino", threads=1) for _ in range(4)]
image = np.zeros((64, 96, 3), np.uint8)
threads = [threading.Thread(target=detector, args=(image,)) for detector in detectors]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_first_pictures_of_several_openvino_detectors_at_once(tmp_path: Path) -> None:
    """In a process of its own, which OpenVINO's bindings could lock up for ever."""
    path = tiny_onnx(tmp_path / "tiny.onnx")
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", FIRST_PICTURES, path], timeout=60, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_openvino_binds_no_thread_to_a_core(tmp_path: Path) -> None:
    """Bound threads of two detectors would share the first core, whatever the others do."""
    from edgedet_runtime.engines.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(tiny_onnx(tmp_path / "tiny.onnx"), TINY_SPEC, 1)
    assert engine.compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_memory_is_not_copied_anew_for_each_frame(name: EngineName, tmp_path: Path) -> None:
    engine = load_engine(name, tiny_onnx(tmp_path / "tiny.onnx"), TINY_SPEC, threads=1)
    tensor, _ = Preprocessor(TINY_SPEC.input, TINY_SPEC.resize)(random_image())
    first, second = engine.infer(tensor), engine.infer(tensor)
    assert all(np.shares_memory(a, b) for a, b in zip(first, second, strict=True))


def test_onnxruntime_waits_within_a_frame_and_sleeps_between_frames() -> None:
    from edgedet_runtime.engines.onnxruntime_engine import session_options

    options = session_options(3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level) == (3, 1, 3)
    for name in ("allow_spinning", "force_spinning_stop"):
        key = f"session.intra_op.{name}" if name == "allow_spinning" else f"session.{name}"
        assert options.get_session_config_entry(key) == "1"


def test_onnxruntime_outputs_whose_size_the_file_leaves_open(tmp_path: Path) -> None:
    """Final boxes are as many as there are: nothing can be bound beforehand."""
    import dataclasses

    import onnx
    from onnx import TensorProto, helper

    spec = TINY_SPEC.replace(
        input=dataclasses.replace(TINY_SPEC.input, height=2, width=3),
        decode=DecodeSpec("nms", (LevelSpec(1, boxes="rows", scores="rows"),)),
    )
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["values", "shape"], ["rows"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 2, 3, 3])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 6])],
    )
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    engine = load_engine("onnxruntime", path, spec, threads=1)
    tensor = np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3)
    first, second = engine.infer(tensor)[0].copy(), engine.infer(tensor + 1)[0]
    np.testing.assert_array_equal(first, np.arange(18).reshape(3, 6))
    np.testing.assert_array_equal(second, first + 1)
    assert first.dtype == np.float32
