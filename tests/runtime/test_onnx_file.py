"""The wire format, byte by byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.model_check import check_model
from edgedet_runtime.onnx_file import fields, onnx_summary, varint

NUMBERS = {
    b"\x00": 0,
    b"\x7f": 127,
    b"\x80\x01": 128,
    b"\xff\x7f": 16383,
    b"\xac\x02": 300,
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01": 2**64 - 1,
}


@pytest.mark.parametrize("data", NUMBERS)
def test_varint(data: bytes) -> None:
    assert varint(b"?" + data + b"?", 1, 1 + len(data)) == (NUMBERS[data], 1 + len(data))


@pytest.mark.parametrize(
    ("data", "end", "message"),
    [
        (b"", 0, "ends within a number at byte 0"),
        (b"\x80", 1, "ends within a number at byte 1"),
        (b"\x80\x01", 1, "ends within a number at byte 1"),
        (b"\x80" * 10 + b"\x01", 11, "impossible number at byte 10"),
    ],
)
def test_varint_that_is_none(data: bytes, end: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        varint(data, 0, end)


def test_fields_with_their_payloads() -> None:
    text, number, eight, four = b"\x0a\x02hi", b"\x10\xac\x02", b"\x19" + b"8" * 8, b"\x25" + b"4" * 4
    large = b"\xa2\x1f\x01x"  # field 500
    data = text + number + eight + four + large
    assert list(fields(data, 0, len(data))) == [(1, 2, 4), (2, 5, 7), (500, 24, 25)]
    assert [data[start:end] for _, start, end in fields(data, 0, len(data))] == [b"hi", b"\xac\x02", b"x"]
    assert list(fields(data, 4, 7)) == [(2, 5, 7)]
    assert list(fields(data, 7, 21)) == [], "fixed-size numbers are stepped over"
    assert list(fields(b"\x0a\x00", 0, 2)) == [(1, 2, 2)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x02\x01x", "impossible field at byte 1"),
        (b"\x0a\x03hi", "3 bytes announced at byte 2, 2 left"),
        (b"\x19" + b"8" * 7, "ends within a number at byte 9"),
        (b"\x25" + b"4" * 3, "ends within a number at byte 5"),
        (b"\x0b", "impossible field type 3 at byte 1"),
        (b"\x0c", "impossible field type 4 at byte 1"),
        (b"\x0e", "impossible field type 6 at byte 1"),
        (b"\x0f", "impossible field type 7 at byte 1"),
    ],
)
def test_fields_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        list(fields(data, 0, len(data)))


def message(number: int, payload: bytes) -> bytes:
    assert number < 16
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


GRAPH = message(
    7, message(1, message(4, b"Conv") + message(1, b"x")) + message(2, b"name") + message(1, message(4, b"Add"))
)


def test_summary_of_a_file_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    metadata = message(14, message(1, b"edgedet") + message(2, b"{}")) + message(14, message(1, b"empty"))
    path.write_bytes(b"\x08\x09" + message(2, b"maker") + GRAPH + metadata)
    found = onnx_summary(path)
    assert (found.metadata, set(found.op_types)) == ({"edgedet": "{}", "empty": ""}, {"Conv", "Add"})
    assert not found.is_quantized


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"])
def test_operators_of_quantized_inference(op: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(message(7, message(1, message(4, op.encode()))))
    assert onnx_summary(path).is_quantized


@pytest.mark.parametrize("graphs", [0, 2])
def test_a_file_has_one_graph(graphs: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x09" + GRAPH * graphs)
    with pytest.raises(ModelFileError, match=r"expected an ONNX file, got .*\(no graph in it\)"):
        onnx_summary(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.onnx: cannot be read \(No such file"):
        onnx_summary(tmp_path / "gone.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(ModelFileError, match=f"expected a model file, got a {kind}"):
        check_model(path)
    if name == "model.onnx":
        with pytest.raises(ModelFileError, match=f"expected a model file, got a {kind}"):
            onnx_summary(path)
