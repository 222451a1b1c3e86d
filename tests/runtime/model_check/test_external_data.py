"""Weights beside a model: only files of its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from edgedet_runtime.engines import load_engine
from edgedet_runtime.engines.model_source import ModelContent
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import check_model
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx


def with_weights_beside(folder: Path, **entries: str) -> Path:
    """Write the tiny detector with its weights in ``weights.data``, entries of each tensor's reference changed."""
    folder.mkdir(exist_ok=True)
    path = tiny_onnx(folder / "model.onnx")
    model = onnx.load(str(path))
    convert_model_to_external_data(model, location="weights.data", size_threshold=0)
    onnx.save(model, str(path))
    stored = onnx.load(str(path), load_external_data=False)
    for tensor in stored.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(stored.SerializeToString())
    return path


def test_a_file_beside_the_model(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path)
    outline = check_model(path)
    assert outline.files == ("weights.data",)
    load_engine("onnxruntime", path, TINY_SPEC, threads=1).close()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("*/_ORT_MEM_ADDR_/*", "expected a file beside the model, got an address in memory"),
        ("/etc/passwd", "expected a file within the model's folder, got '/etc/passwd'"),
        ("../../etc/passwd", "expected a file within the model's folder, got '../../etc/passwd'"),
        ("sub/../../weights.data", "expected a file within the model's folder"),
        ("C:weights.data", "expected a file within the model's folder"),
        ("..\\weights.data", "expected a file within the model's folder"),
        ("", "expected a file within the model's folder, got 'no name'"),
        ("weights\0.data", "expected a file within the model's folder"),
        (".", "expected a file within the model's folder, got '.'"),
        ("other.data", "expected the file other.data beside the model, there is none"),
        ("n" * 5000, "cannot be looked up"),
    ],
)
def test_another_place_is_refused(location: str, message: str, tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "model", location=location)
    with pytest.raises(ModelFileError) as caught:
        check_model(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_symlink_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "model")
    (path.parent / "weights.data").rename(tmp_path / "weights.data")
    (path.parent / "weights.data").symlink_to(tmp_path / "weights.data")
    with pytest.raises(ModelFileError, match=r"weights\.data is a symlink out of it"):
        check_model(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"length": "8"}, "as their shape and type say, got 8 elsewhere"),
        ({"offset": "999999999"}, "from byte 999999999 of weights.data, which has"),
        ({"offset": "-1"}, "expected a number for offset, got '-1'"),
        ({"length": "0x10"}, "expected a number for length, got '0x10'"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(entries: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=message):
        check_model(with_weights_beside(tmp_path, **entries))


@pytest.mark.parametrize("kind", ["obj*cls", "cls"])
def test_the_spec_names_as_many_classes_as_the_file_has(kind: str, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    for names in (("cat",), ("cat", "dog", "owl", "fox")):
        decode = dataclasses.replace(TINY_SPEC.decode, score=kind)  # type: ignore[arg-type]
        spec = TINY_SPEC.replace(classes=names, decode=decode)
        with pytest.raises(ModelFileError, match=r"output scores: expected shape \(1, .*got \(1, 3, 8, 12\)"):
            load_engine("onnxruntime", path, spec, threads=1)


def test_content_that_was_verified_reads_nothing_beside_it(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path)
    with pytest.raises(ModelFileError, match=r"expected them within the model that was verified, got a file"):
        load_engine("onnxruntime", ModelContent(path, path.read_bytes()), TINY_SPEC, threads=1)
