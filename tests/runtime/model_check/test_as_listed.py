"""A bundle's model file and its weights are compared with the manifest whenever an engine is about to open them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest

from edgedet_runtime import Detector
from edgedet_runtime.bundle.manifest import MANIFEST, Manifest, describe_file
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import check_model
from tests.runtime.model_check.test_external_data import with_weights_beside
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx


def write_manifest(folder: Path, *paths: str) -> None:
    files = tuple(
        describe_file(folder, p, **({"precision": "fp32"} if p.endswith((".onnx", ".xml")) else {})) for p in paths
    )
    (folder / MANIFEST).write_text(Manifest(files).to_json(), encoding="utf-8")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tiny_ir(folder: Path) -> Path:
    ov = pytest.importorskip("openvino")
    tiny_onnx(folder / "given.onnx", TINY_SPEC)
    model = ov.convert_model(str(folder / "given.onnx"))
    model.set_rt_info(TINY_SPEC.to_json(), "edgedet")
    ov.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    return folder / "model.xml"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_digests_are_of_all_that_the_engine_reads(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path)
    assert check_model(path).digests == {}
    write_manifest(tmp_path, "model.onnx", "weights.data")
    assert check_model(path).digests == {name: sha256(tmp_path / name) for name in ("model.onnx", "weights.data")}


@pytest.mark.parametrize("inner", ["", "inner/"])
def test_weights_that_are_not_listed(tmp_path: Path, inner: str) -> None:
    path = with_weights_beside(tmp_path / inner if inner else tmp_path)
    write_manifest(tmp_path, f"{inner}model.onnx")
    with pytest.raises(ModelFileError, match=r"model\.onnx reads weights\.data: expected only files that the bundle's"):
        check_model(path)


@pytest.mark.parametrize("file", ["model.onnx", "weights.data"])
def test_an_onnx_that_was_changed(tmp_path: Path, file: str) -> None:
    path = with_weights_beside(tmp_path)
    write_manifest(tmp_path, "model.onnx", "weights.data")
    data = (tmp_path / file).read_bytes()
    if file == "model.onnx":  # still a fit one: only its hash tells
        model = onnx.load(str(path), load_external_data=False)
        model.producer_name = "b" * len(model.producer_name or "")
        model.doc_string = "x"
        path.write_bytes(model.SerializeToString())
        expected = rf"model\.onnx: expected {len(data)} bytes as the bundle's manifest\.json has it, got \d+ bytes"
    else:
        flip_a_byte(tmp_path / file)
        expected = r"weights\.data: expected sha256 \w{12}… as the bundle's manifest\.json has it, got sha256 \w{12}…"
    with pytest.raises(ModelFileError, match=expected):
        check_model(path)


@pytest.mark.parametrize("opened", ["bundle", "file"])
def test_the_weights_of_an_ir_that_were_changed(tmp_path: Path, opened: str) -> None:
    xml = tiny_ir(tmp_path)
    write_manifest(tmp_path, "model.xml", "model.bin")
    model = tmp_path if opened == "bundle" else xml
    Detector(model, engine="openvino", threads=1).close()
    flip_a_byte(tmp_path / "model.bin")
    with pytest.raises(ModelFileError, match=r"model\.bin: expected sha256 .* copy the bundle again"):
        Detector(model, engine="openvino", threads=1)


def test_somebody_elses_manifest_does_not_matter(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "inner")
    (tmp_path / MANIFEST).write_text('{"name": "a web page"}')
    (tmp_path / "inner" / MANIFEST).write_text('{"name": "a web page", "files": ["a.js", {"path": 5}]}')
    assert check_model(path).digests == {}


def test_a_manifest_that_is_no_json(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ModelFileError, match=r"manifest\.json: cannot be read as JSON"):
        check_model(path)


@pytest.mark.parametrize("entry", ['"bytes": "9", "sha256": 5', '"sha256": null', '"bytes": -1'])
def test_an_entry_that_says_nothing_of_the_file(tmp_path: Path, entry: str) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    (tmp_path / MANIFEST).write_text('{"files": [{"path": "model.onnx", ' + entry + "}]}")
    with pytest.raises(ModelFileError, match="as the bundle's"):
        check_model(path)
