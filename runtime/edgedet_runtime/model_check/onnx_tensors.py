"""Weights of an ONNX model: whether the bytes that a tensor brings are those of its declared shape and type.

Numbers of fields and types are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgedet_runtime.model_check.external_data import external_file
from edgedet_runtime.model_check.outline import LARGEST_TENSOR, Fault
from edgedet_runtime.onnx_file import varint
from edgedet_runtime.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

__all__ = ["Weights", "check_tensor", "element_count", "packed_numbers"]

Fields = Callable[[int, int], "Iterator[tuple[int, int, int]]"]

_DIMS, _TYPE, _SEGMENT, _STRINGS, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 3, 6, 8, 9, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # the low bits of a key
_STRING_TYPE = 8
_WIDTHS = {4: 4, 5: 0, 7: 0, 10: 8, 11: 0}
"""Fields of numbers: bytes per number, 0 for varints."""
_LONE = {0: _VARINT, 4: _FIXED32, 8: _FIXED64}
"""Bytes per number → the type of a field that holds a single one, beside packed lists of them."""
MOST_DIMENSIONS = 16
_FIELD_OF_TYPE = {
    **dict.fromkeys((1, 14), 4),
    **dict.fromkeys((2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26), 5),
    7: 7,
    **dict.fromkeys((11, 15), 10),
    **dict.fromkeys((12, 13), 11),
}
_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}


def element_count(dims: list[int], what: str) -> int:
    """Return the number of elements of a shape.

    Raises:
        Fault: A dimension is negative, or the tensor is larger than any engine takes.
    """
    count = 1
    for size in dims:
        count *= size
        if not 0 <= size <= LARGEST_TENSOR or count > LARGEST_TENSOR:
            shape = "×".join(map(str, dims[:8]))
            raise Fault(f"{what}: expected a shape of 0 to {LARGEST_TENSOR} elements, got {shown(shape)}")
    return count


def packed_numbers(data: mmap | bytes, start: int, end: int) -> list[int]:
    """Return a short packed list of int64, negative ones as such."""
    values = []
    while start < end:
        value, start = varint(data, start, end)
        values.append(value - 2**64 if value >= 2**63 else value)
        if len(values) > MOST_DIMENSIONS:
            raise Fault(f"shape: expected at most {MOST_DIMENSIONS} dimensions, got more")
    return values


class Weights(NamedTuple):
    """A tensor that was checked.

    Attributes:
        name: Its name.
        shape: Its shape.
        location: Of the file that holds it, None where it is in the model.
    """

    name: str
    shape: tuple[int, ...]
    location: str | None


def check_tensor(data: mmap | bytes, start: int, end: int, fields: Fields, folder: Path | None) -> Weights:
    """Check one tensor.

    Args:
        data: The file.
        start: Where the message starts.
        end: Where it ends.
        fields: Reads the fields of a range.
        folder: Of the model, for weights outside; None where nothing outside may be read.

    Returns:
        What it is.

    Raises:
        Fault: Its bytes are not those of its shape and type, or it may not be read.
    """
    dims: list[int] = []
    single: dict[int, int] = {}
    held = dict.fromkeys((*_WIDTHS, _STRINGS), 0)
    name, external = "", {}
    raw: int | None = None
    for key, s, e in fields(start, end):
        number, wire_type = key >> 3, key & 7
        if number == _DIMS and wire_type in (_VARINT, _BYTES):  # a packed list and a lone number read alike
            dims += packed_numbers(data, s, e)
            if len(dims) > MOST_DIMENSIONS:
                raise Fault(f"weights {shown(name)}: expected at most {MOST_DIMENSIONS} dimensions, got more")
        elif number in (_TYPE, _LOCATION) and wire_type == _VARINT:
            if number in single:
                raise Fault(f"weights {shown(name)}: expected one type and one location, got several")
            single[number] = varint(data, s, e)[0]
        elif number in _WIDTHS and wire_type in (_BYTES, _LONE[_WIDTHS[number]]):
            width = _WIDTHS[number]
            if width and (e - s) % width:
                raise Fault(f"weights {shown(name)}: expected whole numbers of {width} bytes, got {e - s} bytes")
            held[number] += (e - s) // width if width else _varint_count(data, s, e)
        elif wire_type != _BYTES:
            continue
        elif number == _NAME:
            name = data[s : min(e, s + 1000)].decode(errors="replace")
        elif number == _RAW:
            if raw is not None:
                raise Fault(f"weights {shown(name)}: expected their bytes once, got them twice")
            raw = e - s
        elif number == _EXTERNAL:
            entry = {k >> 3: data[a : min(b, a + 4096)].decode(errors="replace") for k, a, b in fields(s, e)}
            external[entry.get(1, "")] = entry.get(2, "")
        elif number == _SEGMENT:
            raise Fault(f"weights {shown(name)}: expected a whole tensor, got a segment")
        elif number == _STRINGS:
            held[number] += 1
    what = f"weights {shown(name)}" if name else "weights"
    kind, count = single.get(_TYPE, 0), element_count(dims, what)
    if kind not in _BITS and kind != _STRING_TYPE:
        raise Fault(f"{what}: expected a type of ONNX, got number {kind}")
    if single.get(_LOCATION, 0) or external:
        if raw or any(held.values()) or kind == _STRING_TYPE:
            raise Fault(f"{what}: expected them either in the file or in another one, got both")
        need = -(-count * _BITS[kind] // 8)
        return Weights(name, tuple(dims), _check_external(external, need, what, folder))
    _check_inner(kind, count, raw, held, what)
    return Weights(name, tuple(dims), None)


def _check_inner(kind: int, count: int, raw: int | None, held: dict[int, int], what: str) -> None:
    """Compare what a tensor brings with it with what its shape and type need."""
    if kind == _STRING_TYPE:
        if raw is not None or held[_STRINGS] != count:
            raise Fault(f"{what}: expected {count} texts, got {held[_STRINGS]}")
        return
    own = _FIELD_OF_TYPE[kind]
    if any(amount for field, amount in held.items() if field != own) or (raw is not None and held[own]):
        raise Fault(f"{what}: expected numbers of one type, got several lists of them")
    if raw is not None:
        need = -(-count * _BITS[kind] // 8)
        if raw != need:
            raise Fault(f"{what}: expected {need} bytes as their shape and type say, got {raw}")
        return
    bits = _BITS[kind]
    per_element = 2 if kind in (14, 15) else 1
    need = -(-count * bits // 8) if bits < 8 else count * per_element
    if held[own] != need:
        raise Fault(f"{what}: expected {need} numbers as their shape says, got {held[own]}")


def _varint_count(data: mmap | bytes, start: int, end: int) -> int:
    """Return how many base-128 numbers a packed list has: as many as it has bytes without a continuation bit."""
    count = 0
    for at in range(start, end, 1 << 20):
        count += int(np.count_nonzero(np.frombuffer(data[at : min(at + (1 << 20), end)], np.uint8) < 0x80))
    return count


def _check_external(external: dict[str, str], need: int, what: str, folder: Path | None) -> str:
    """Compare the part of another file that holds a tensor with what its shape and type need; return its location."""
    location = external.get("location", "")
    if folder is None:
        raise Fault(f"{what}: expected them within the model that was verified, got a file ({shown(location)})")
    path = external_file(folder, location)
    numbers = {}
    for key, default in (("offset", 0), ("length", need)):
        text = external.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise Fault(f"{what}: expected a number for {key}, got {shown(text)!r}")
        numbers[key] = int(text)
    if numbers["length"] != need:
        raise Fault(f"{what}: expected {need} bytes as their shape and type say, got {numbers['length']} elsewhere")
    size = path.stat().st_size
    if numbers["offset"] + need > size:
        raise Fault(
            f"{what}: expected {need} bytes from byte {numbers['offset']} of {shown(location)}, which has {size}"
        )
    return location
