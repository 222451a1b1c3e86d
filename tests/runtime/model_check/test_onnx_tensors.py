"""Weights of each type that ONNX has: as many bytes and numbers as their shape says, not one more or less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from edgedet_runtime.model_check.onnx_tensors import check_tensor, element_count, packed_numbers
from edgedet_runtime.model_check.outline import Fault
from edgedet_runtime.onnx_file import CountedFields

SMALL = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
WITHOUT = ("UNDEFINED", "STRING", "FLOAT6E2M3", "FLOAT6E3M2")
TYPES = [name for name, _ in TensorProto.DataType.items() if name not in WITHOUT]


def bits_of(name: str) -> int:
    return SMALL.get(name) or helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(name)).itemsize * 8


def check(tensor: TensorProto | bytes, folder: Path | None = None) -> str | None:
    """Check a tensor that lies between other bytes; return where its weights lie if elsewhere."""
    data = tensor if isinstance(tensor, bytes) else tensor.SerializeToString()
    padded = b"\xff\xff" + data + b"\xff"
    return check_tensor(padded, 2, 2 + len(data), CountedFields(padded), folder).location


def tensor(kind: str, dims: list[int], **fields: Any) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.DataType.Value(kind), dims=dims, **fields)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dims", [[5], [3, 4], [], [0, 7]], ids=str)
def test_bytes(kind: str, dims: list[int]) -> None:
    count = element_count(dims, "w")
    need = -(-count * bits_of(kind) // 8)
    assert check(tensor(kind, dims, raw_data=bytes(need))) is None
    for wrong in {need + 1, max(need - 1, 0)} - {need}:
        with pytest.raises(
            Fault, match=rf"^weights w: expected {need} bytes as their shape and type say, got {wrong}$"
        ):
            check(tensor(kind, dims, raw_data=bytes(wrong)))


LISTS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


@pytest.mark.parametrize("kind", TYPES)
def test_numbers(kind: str) -> None:
    """Small types are packed into bytes, complex numbers are two each."""
    own = helper.tensor_dtype_to_field(TensorProto.DataType.Value(kind))
    need = -(-5 * SMALL[kind] // 8) if kind in SMALL else 10 if "COMPLEX" in kind else 5
    assert check(tensor(kind, [5], **{own: [1] * need})) is None
    assert check(tensor(kind, [0])) is None
    for wrong in (need - 1, need + 1):
        with pytest.raises(Fault, match=rf"^weights w: expected {need} numbers as their shape says, got {wrong}$"):
            check(tensor(kind, [5], **{own: [1] * wrong}))
    for other in LISTS:
        if other != own:
            with pytest.raises(Fault, match=r"expected numbers of one type, got several lists of them$"):
                check(tensor(kind, [5], **{own: [1] * need, other: [1]}))
    with pytest.raises(Fault, match="expected numbers of one type, got several"):
        check(tensor(kind, [5], raw_data=b"x", **{own: [1]}))
    with pytest.raises(Fault, match="expected numbers of one type, got several"):
        check(tensor(kind, [1], string_data=[b"x"], **{own: [1]}))


def test_texts() -> None:
    assert check(tensor("STRING", [2], string_data=[b"a", b"bc"])) is None
    for wrong in ([], [b"a"], [b"a", b"b", b"c"]):
        with pytest.raises(Fault, match=f"expected 2 texts, got {len(wrong)}$"):
            check(tensor("STRING", [2], string_data=wrong))
    with pytest.raises(Fault, match="expected 1 texts"):
        check(tensor("STRING", [1], string_data=[b"a"], raw_data=b"a"))


@pytest.mark.parametrize("kind", [0, 27, 99, -1])
def test_types_that_are_none(kind: int) -> None:
    with pytest.raises(Fault, match="expected a type of ONNX, got number"):
        check(TensorProto(name="w", data_type=kind, dims=[0]))


HEAD = b"\x08\x02"  # dims: 2
LONE = {
    "floats": (b"\x10\x01", b"\x25" + b"1234", b"\x25" + b"5678"),
    "int32": (b"\x10\x06", b"\x28\x05", b"\x28\xff\x01"),
    "int64": (b"\x10\x07", b"\x38\x05", b"\x38\xff\xff\x01"),
    "doubles": (b"\x10\x0b", b"\x51" + b"12345678", b"\x51" + b"12345678"),
    "uint64": (b"\x10\x0d", b"\x58\x05", b"\x58\x80\x01"),
}


@pytest.mark.parametrize("case", LONE)
def test_numbers_one_by_one(case: str) -> None:
    kind, first, second = LONE[case]
    assert check(HEAD + kind + first + second) is None
    with pytest.raises(Fault, match="expected 2 numbers as their shape says, got 1"):
        check(HEAD + kind + first)


def test_numbers_of_another_form_do_not_count() -> None:
    """A float is four bytes, alone or in a packed list; as a whole number on the wire it is passed over."""
    for other in (b"\x20\x05", b"\x21" + b"12345678"):
        with pytest.raises(Fault, match="expected 1 numbers as their shape says, got 0"):
            check(b"\x10\x01" + other)
    for length in (3, 5):
        with pytest.raises(Fault, match=f"expected whole numbers of 4 bytes, got {length} bytes"):
            check(b"\x10\x01\x22" + bytes([length]) + bytes(length))


def test_what_stands_twice() -> None:
    whole = tensor("UINT8", [1], raw_data=b"x").SerializeToString()
    assert check(whole) is None
    with pytest.raises(Fault, match="expected one type and one location, got several"):
        check(whole + b"\x10\x02")
    with pytest.raises(Fault, match="expected one type and one location, got several"):
        check(whole + b"\x70\x00\x70\x00")
    with pytest.raises(Fault, match="expected their bytes once, got them twice"):
        check(whole + b"\x4a\x01x")
    with pytest.raises(Fault, match="expected a whole tensor, got a segment"):
        check(whole + b"\x1a\x00")


@pytest.mark.parametrize("packed", [False, True])
def test_sixteen_dimensions_at_most(packed: bool) -> None:
    def dims(count: int) -> bytes:
        return bytes([10, count]) + b"\x01" * count if packed else b"\x08\x01" * count

    assert check(dims(16) + b"\x10\x02\x4a\x01x") is None
    with pytest.raises(Fault, match="expected at most 16 dimensions, got more"):
        check(dims(17) + b"\x10\x02\x4a\x01x")
    with pytest.raises(Fault, match="expected at most 16 dimensions, got more"):
        check(dims(10) + dims(10) + b"\x10\x02\x4a\x01x")


def test_numbers_of_elements() -> None:
    assert element_count([], "w") == 1
    assert element_count([2**31 - 1], "w") == 2**31 - 1
    assert element_count([0, 5], "w") == 0
    for dims in ([2**31], [-1], [2, 2**30], [0, -1], [0, 2**31]):
        with pytest.raises(Fault, match="w: expected a shape of 0 to 2147483647 elements, got"):
            element_count(dims, "w")
    with pytest.raises(Fault, match=r"got 1×2×3×4×5×6×7×8$"):
        element_count([1, 2, 3, 4, 5, 6, 7, 8, -1], "w")


def test_packed_numbers() -> None:
    data = b"?\x05\x80\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01?"
    assert packed_numbers(data, 1, len(data) - 1) == [5, 128, -1]
    assert packed_numbers(b"\xff" * 8 + b"\x7f", 0, 9) == [2**63 - 1]
    assert packed_numbers(b"", 0, 0) == []


def entries(**of: str) -> dict[str, Any]:
    pairs = [{"key": key, "value": value} for key, value in of.items()]
    return {"data_location": TensorProto.EXTERNAL, "external_data": pairs}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w.bin").write_bytes(bytes(100))
    return tmp_path


@pytest.mark.parametrize(
    "more", [{}, {"offset": "0"}, {"offset": "92"}, {"length": "8"}, {"offset": "92", "length": "8"}], ids=str
)
def test_weights_elsewhere(more: dict[str, str], folder: Path) -> None:
    assert check(tensor("FLOAT", [2], **entries(location="w.bin", **more)), folder) == "w.bin"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"offset": "93"}, r"expected 8 bytes from byte 93 of w\.bin, which has 100$"),
        ({"length": "7"}, "expected 8 bytes as their shape and type say, got 7 elsewhere$"),
        ({"length": "9"}, "expected 8 bytes as their shape and type say, got 9 elsewhere$"),
        ({"offset": "-1"}, "expected a number for offset, got '-1'$"),
        ({"offset": "9" * 20}, "expected a number for offset"),
        ({"offset": "9" * 19}, "expected 8 bytes from byte 9"),
        ({"offset": "٣"}, "expected a number for offset"),
        ({"length": ""}, "expected a number for length, got ''$"),
    ],
    ids=str,
)
def test_weights_elsewhere_that_do_not_fit(more: dict[str, str], words: str, folder: Path) -> None:
    with pytest.raises(Fault, match=f"^weights w: {words}"):
        check(tensor("FLOAT", [2], **entries(location="w.bin", **more)), folder)


def test_weights_are_in_one_place(folder: Path) -> None:
    there = entries(location="w.bin")
    heres: list[dict[str, Any]] = [{"raw_data": b"12345678"}, {"float_data": [1.0, 2.0]}, {"string_data": [b"x"]}]
    for here in heres:
        with pytest.raises(Fault, match=r"either in the file or in another one, got both$"):
            check(tensor("FLOAT", [2], **there, **here), folder)
    with pytest.raises(Fault, match=r"either in the file or in another one, got both$"):
        check(tensor("STRING", [2], **there), folder)
    only_entries = {"external_data": there["external_data"]}
    assert check(tensor("FLOAT", [2], **only_entries), folder) == "w.bin"
    with pytest.raises(Fault, match=r"within the model that was verified, got a file \(w\.bin\)$"):
        check(tensor("FLOAT", [2], **there), None)
    assert check(tensor("INT4", [5], **entries(location="w.bin", offset="97")), folder) == "w.bin"


def test_name_and_shape_come_back() -> None:
    data = tensor("UINT8", [2, 1], raw_data=b"xy").SerializeToString()
    found = check_tensor(data, 0, len(data), CountedFields(data), None)
    assert (found.name, found.shape, found.location) == ("w", (2, 1), None)


def test_messages_name_a_tensor_where_it_has_a_name() -> None:
    with pytest.raises(Fault, match=r"^weights: expected 4 bytes"):
        check(TensorProto(data_type=1, dims=[1], raw_data=b"x"))
    data = tensor("FLOAT", [1], raw_data=b"x")
    data.name = "n" * 300
    with pytest.raises(Fault, match=rf"^weights {'n' * 60}…: expected"):
        check(data)
