"""Finding the right file of a model, and the spec inside it."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet_runtime.bundle.manifest import read_manifest, verify_bundle
from edgedet_runtime.bundle.model_files import find_model_file, model_bytes, read_spec
from edgedet_runtime.choices import EngineName, Precision
from edgedet_runtime.engines.model_source import ModelContent
from edgedet_runtime.errors import EdgedetError, InputError, ModelFileError
from edgedet_runtime.onnx_file import onnx_summary
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx


def write_ir(onnx_path: Path, path: Path, *, quantise: bool = False) -> Path:
    """Turn an ONNX file into OpenVINO IR with the spec in rt_info."""
    ov = pytest.importorskip("openvino")
    model = ov.Core().read_model(str(onnx_path))
    if quantise:
        from openvino import opset13

        relu = model.output(0).get_node().input_value(0)
        low, high = opset13.constant(np.float32(-8)), opset13.constant(np.float32(8))
        fake = opset13.fake_quantize(relu, low, high, low, high, 256)
        model.output(0).get_node().input(0).replace_source_output(fake.output(0))
    if "edgedet" not in model.get_rt_info():
        model.set_rt_info(TINY_SPEC.to_json(), "edgedet")
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, str(path), compress_to_fp16=False)
    return path


def write_manifest(folder: Path, files: list[dict[str, Any]], **more: Any) -> None:
    for entry in files:
        data = (folder / entry["path"]).read_bytes()
        entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (folder / "manifest.json").write_text(json.dumps({"files": files, **more}))


FILES = {
    "model.onnx": {"precision": "fp32", "engines": ["onnxruntime", "opencv", "openvino"]},
    "model.int8.onnx": {"precision": "int8", "engines": ["onnxruntime"]},
    "openvino/model.xml": {"precision": "fp32", "engines": ["openvino"]},
    "openvino/model.int8.xml": {"precision": "int8", "engines": ["openvino"]},
}


@pytest.fixture(scope="module")
def full_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    tiny_onnx(folder / "model.onnx")
    tiny_onnx(folder / "model.int8.onnx", quantised=True)
    write_ir(folder / "model.onnx", folder / "openvino/model.xml")
    write_ir(folder / "model.onnx", folder / "openvino/model.int8.xml", quantise=True)
    write_manifest(folder, [{"path": p, **facts} for p, facts in FILES.items()])
    return folder


@pytest.fixture
def bundle(full_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(full_bundle, tmp_path / "bundle"))


CHOICES: list[tuple[EngineName | None, Precision | None, str, str, str]] = [
    (None, None, "model.int8.onnx", "onnxruntime", "int8"),
    (None, "fp32", "model.onnx", "onnxruntime", "fp32"),
    ("onnxruntime", "int8", "model.int8.onnx", "onnxruntime", "int8"),
    ("openvino", None, "openvino/model.int8.xml", "openvino", "int8"),
    ("openvino", "fp32", "openvino/model.xml", "openvino", "fp32"),
    ("opencv", None, "model.onnx", "opencv", "fp32"),
]


@pytest.mark.parametrize(("engine", "precision", "path", "chosen", "at"), CHOICES)
def test_choice_in_a_bundle(
    full_bundle: Path, engine: EngineName | None, precision: Precision | None, path: str, chosen: str, at: str
) -> None:
    found = find_model_file(full_bundle, engine=engine, precision=precision)
    assert (found.path, found.engine, found.precision) == (full_bundle / path, chosen, at)
    assert found.spec == TINY_SPEC


def keep_only(bundle: Path, *paths: str, **more: Any) -> None:
    write_manifest(bundle, [{"path": p, **FILES[p]} for p in paths], **more)


def test_the_recommendation_is_followed_and_a_wish_goes_before_it(bundle: Path) -> None:
    keep_only(bundle, *FILES, recommended={"onnxruntime": "fp32", "openvino": "int8"})
    assert find_model_file(bundle).precision == "fp32"
    assert find_model_file(bundle, engine="openvino").precision == "int8"
    assert find_model_file(bundle, precision="int8").path.name == "model.int8.onnx"


def test_without_int8_the_default_is_fp32(bundle: Path) -> None:
    keep_only(bundle, "model.onnx")
    assert find_model_file(bundle).precision == "fp32"
    assert find_model_file(bundle, engine="openvino").path.name == "model.onnx"


def test_what_is_recommended_but_not_there_is_passed_over(bundle: Path) -> None:
    keep_only(bundle, "model.onnx", recommended={"onnxruntime": "int8"})
    assert find_model_file(bundle).precision == "fp32"
    keep_only(bundle, "model.int8.onnx", recommended={"onnxruntime": "fp32"})
    assert find_model_file(bundle).precision == "int8"


def test_an_int8_file_of_another_engine_is_never_taken(bundle: Path) -> None:
    keep_only(bundle, "model.onnx", "model.int8.onnx")
    engines: tuple[EngineName, ...] = ("openvino", "opencv")
    for engine in engines:
        with pytest.raises(InputError, match=rf"no file for engine {engine} at int8; it has model\.onnx"):
            find_model_file(bundle, engine=engine, precision="int8")
    files = [{"path": p, "precision": FILES[p]["precision"]} for p in ("model.onnx", "model.int8.onnx")]
    write_manifest(bundle, files)  # a manifest that does not name engines
    assert find_model_file(bundle, engine="openvino").precision == "fp32"


def test_only_model_files_are_offered_instead(bundle: Path) -> None:
    for name in ("model.tflite", "notes.onnx"):
        (bundle / name).write_bytes(b"x")
    files = [{"path": "model.tflite", "precision": "fp32"}, {"path": "notes.onnx"}]
    write_manifest(bundle, files)
    with pytest.raises(InputError, match="it has no model file: choose among these"):
        find_model_file(bundle)


def test_a_bundle_without_model_files(bundle: Path) -> None:
    keep_only(bundle, "openvino/model.xml")
    with pytest.raises(InputError, match=r"no file for engine onnxruntime; it has openvino/model\.xml"):
        find_model_file(bundle)


@pytest.mark.parametrize(
    ("name", "engine", "precision", "chosen", "at"),
    [
        ("model.onnx", None, None, "onnxruntime", "fp32"),
        ("model.onnx", "openvino", "fp32", "openvino", "fp32"),
        ("model.int8.onnx", None, None, "onnxruntime", "int8"),
        ("openvino/model.xml", None, None, "openvino", "fp32"),
        ("openvino/model.int8.xml", "openvino", "int8", "openvino", "int8"),
    ],
)
def test_single_files(
    full_bundle: Path, name: str, engine: EngineName | None, precision: Precision | None, chosen: str, at: str
) -> None:
    found = find_model_file(str(full_bundle / name), engine=engine, precision=precision)
    assert (found.path, found.engine, found.precision) == (full_bundle / name, chosen, at)
    assert found.spec == TINY_SPEC


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "engine": ("model.onnx", {"engine": "tensorrt"}, "engine: expected one of"),
    "precision": ("model.onnx", {"precision": "fp16"}, "precision: expected fp32 or int8"),
    "is fp32": ("model.onnx", {"precision": "int8"}, "is fp32, asked for was int8"),
    "is int8": ("model.int8.onnx", {"precision": "fp32"}, "is int8, asked for was fp32"),
    "xml in onnxruntime": ("openvino/model.xml", {"engine": "onnxruntime"}, r"reads \.onnx files, not \.xml"),
    "absent": ("nothing.onnx", {}, "does not exist"),
    "a checkpoint": ("openvino/model.bin", {}, "edgedet export"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wishes_that_cannot_be_met(full_bundle: Path, case: str) -> None:
    name, wishes, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as error:
        find_model_file(full_bundle / name, **wishes)
    assert "\n" not in str(error.value)


BAD_MANIFESTS = {
    "not JSON": "{",
    "a list": "[]",
    "no files": "{}",
    "file without hash": '{"files": [{"path": "model.onnx", "bytes": 3}]}',
    "outside": '{"files": [{"path": "../x.onnx", "bytes": 3, "sha256": "00"}]}',
    "absolute": '{"files": [{"path": "/x.onnx", "bytes": 3, "sha256": "00"}]}',
    "recommended is a list": '{"files": [], "recommended": ["fp32"]}',
    "recommended is a flag": '{"files": [], "recommended": {"onnxruntime": true}}',
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_bad_manifests(tmp_path: Path, case: str) -> None:
    (tmp_path / "manifest.json").write_text(BAD_MANIFESTS[case])
    with pytest.raises(ModelFileError, match=r"manifest\.json") as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"expected a bundle with manifest\.json"):
        find_model_file(tmp_path)


def test_verify_bundle_names_each_problem(bundle: Path) -> None:
    assert verify_bundle(bundle) == []
    (bundle / "openvino/model.xml").unlink()
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[-5] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    (bundle / "model.int8.onnx").write_bytes(b"short")
    problems = verify_bundle(bundle)
    assert len(problems) == 3
    assert problems[0].startswith("model.onnx: expected sha256")
    assert problems[1].startswith("model.int8.onnx: expected")
    assert problems[2] == "openvino/model.xml: is missing"


def test_a_file_without_spec_says_what_to_do(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "foreign.onnx", None)
    with pytest.raises(ModelFileError, match=r"no edgedet spec.*edgedet export foreign\.onnx"):
        read_spec(path)
    (tmp_path / "x.xml").write_text("<net><rt_info/></net>")
    with pytest.raises(ModelFileError, match="no edgedet spec"):
        read_spec(tmp_path / "x.xml")


def test_the_spec_of_content_that_lies_nowhere(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    content = ModelContent(tmp_path / "nowhere.onnx", path.read_bytes())
    assert read_spec(content) == TINY_SPEC
    with pytest.raises(ModelFileError, match=r"nowhere\.onnx: expected a model file, it does not exist"):
        read_spec(content.path)


def test_a_bad_spec_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text('<net><rt_info><edgedet value="{}"/></rt_info></net>')
    with pytest.raises(ModelFileError, match=r"x\.xml: model spec: .*expected"):
        read_spec(tmp_path / "x.xml")


def test_summary_of_an_onnx_file(tmp_path: Path) -> None:
    summary = onnx_summary(tiny_onnx(tmp_path / "a.onnx"))
    assert summary.op_types == {"Cast", "Transpose", "Mul", "Conv"}
    assert not summary.is_quantized
    assert onnx_summary(tiny_onnx(tmp_path / "b.onnx", quantised=True)).is_quantized


def test_weights_are_not_loaded(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    path = tiny_onnx(tmp_path / "big.onnx")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(8_000_000, np.float32), "unused"))
    onnx.save(model, str(path))
    tracemalloc.start()
    try:
        assert read_spec(path) == TINY_SPEC
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # of 32 MB
    finally:
        tracemalloc.stop()


def test_every_truncation_is_refused_or_still_whole(tmp_path: Path) -> None:
    """The metadata comes last: each shorter file lacks it, and says so in one line."""
    data = tiny_onnx(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in [*range(64), *range(64, len(data), 97)]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError) as error:
            read_spec(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_never_end_in_another_error(tmp_path: Path, seed: int) -> None:
    data = bytearray(tiny_onnx(tmp_path / "whole.onnx").read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(data), 20):
        data[position] = rng.integers(0, 256)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    try:
        read_spec(path)
    except EdgedetError as e:
        assert "\n" not in str(e)  # noqa: PT017 - it may also be harmless


@pytest.mark.parametrize("content", ["", "<net", "<html></html>", "\x00\x01"])
def test_garbage_xml(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(content)
    with pytest.raises(ModelFileError, match=r"bad\.xml: expected an OpenVINO IR"):
        read_spec(path)


def test_bytes_of_a_model_with_its_weights(tmp_path: Path) -> None:
    for name, size in (("a.onnx", 7), ("a.bin", 100), ("b.xml", 5), ("b.bin", 30), ("c.xml", 4)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert [model_bytes(tmp_path / n) for n in ("a.onnx", "b.xml", "c.xml")] == [7, 35, 4]
