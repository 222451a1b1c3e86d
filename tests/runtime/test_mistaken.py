"""Files given in place of a model are named for what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.mistaken import mistaken_file
from edgedet_runtime.onnx_file import onnx_summary

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (LFS, "a Git LFS pointer, not the file itself (run git lfs pull)"),
        (b"<!DOCTYPE html><html></html>", "a web page (the download failed)"),
        (b"\xef\xbb\xbf\n  <HTML lang=en>", "a web page (the download failed)"),
        (b'<?xml version="1.0"?><net name="x">', "an XML file"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"Not Found", "a text file"),
        (b"", "an empty file"),
        (b"PK\x03\x04" + bytes(40), "a zip file, as torch.save writes"),
        (b"\x80\x02}q\x00.", "a pickle, as old versions of torch.save write"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(40), "a TensorFlow Lite model"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_named_for_what_it_is(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    said = mistaken_file(path)
    assert said is not None
    assert said.startswith(words)
    with pytest.raises(ModelFileError, match=r"^\S+model\.onnx: expected an ONNX file, got ") as caught:
        onnx_summary(path)
    assert words in str(caught.value)


def test_an_onnx_file_is_not_mistaken(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08\x12\x07pytorch:\x05\x0a\x03abc")
    assert mistaken_file(path) is None
    assert mistaken_file(tmp_path / "absent.onnx") is None
