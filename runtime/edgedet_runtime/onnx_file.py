"""What stands in an ONNX file beside its weights: metadata and operators, read without the onnx package.

ONNX is a Protocol Buffers message. Its wire format is a sequence of fields, each a varint key ``number << 3 |
type`` and a payload (https://protobuf.dev/programming-guides/encoding); the field numbers are those of
onnx.proto. The file is mapped, and payloads that are of no interest, such as weights, are stepped over
without being read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.mistaken import mistaken_file

__all__ = [
    "MOST_FIELDS",
    "CountedFields",
    "OnnxSummary",
    "fields",
    "keyed_fields",
    "onnx_summary",
    "refuse_special",
    "varint",
]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_METADATA = 7 << 3 | _BYTES, 14 << 3 | _BYTES
_GRAPH_NODE, _NODE_OP_TYPE = 1 << 3 | _BYTES, 4 << 3 | _BYTES
_ENTRY_KEY, _ENTRY_VALUE = 1 << 3 | _BYTES, 2 << 3 | _BYTES

MOST_FIELDS = 5_000_000
"""Fields of a file that are read, at most; those of a large detector are some ten thousands."""


@dataclass(frozen=True, slots=True)
class OnnxSummary:
    """An ONNX file's metadata and operator types.

    Attributes:
        metadata: ``metadata_props``.
        op_types: Every operator type of the main graph.
    """

    metadata: dict[str, str]
    op_types: frozenset[str]

    @property
    def is_quantized(self) -> bool:
        """True if the graph has operators of quantised inference."""
        return bool(self.op_types & {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"})


def refuse_special(path: Path) -> None:
    """Refuse a pipe, device or folder, before opening it waits for a writer that never comes.

    Raises:
        ModelFileError: The path is there, and no plain file.
        OSError: It cannot be looked up.
    """
    if path.exists() and not path.is_file():
        raise ModelFileError(
            f"{path}: expected a model file, got {'a folder' if path.is_dir() else 'a pipe or device'}"
        )


def onnx_summary(path: Path, content: bytes | None = None) -> OnnxSummary:
    """Read an ONNX file's metadata and operator types.

    Args:
        path: The file.
        content: Its content, where that was read already; the file is then not opened.

    Raises:
        ModelFileError: The file is missing, empty, truncated, or not ONNX.
    """
    try:
        if content is not None:
            return _summary(content)
        refuse_special(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _summary(data)
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, IndexError) as e:  # mmap of an empty file, and the reader's own
        got = mistaken_file(path) or f"a truncated one or something else ({e})"
        raise ModelFileError(f"{path}: expected an ONNX file, got {got}") from None


def _summary(data: mmap.mmap | bytes) -> OnnxSummary:
    metadata: dict[str, str] = {}
    op_types: set[str] = set()
    graphs = 0
    counted = CountedFields(data)
    for key, start, end in counted(0, len(data)):
        if key == _MODEL_GRAPH:
            graphs += 1
            for node, node_start, node_end in counted(start, end):
                if node == _GRAPH_NODE:
                    op_types.update(
                        data[s:e].decode() for field, s, e in counted(node_start, node_end) if field == _NODE_OP_TYPE
                    )
        elif key == _MODEL_METADATA:
            entry = {field: data[s:e].decode() for field, s, e in counted(start, end)}
            metadata[entry.get(_ENTRY_KEY, "")] = entry.get(_ENTRY_VALUE, "")
    if graphs != 1:
        raise ValueError("no graph in it")
    return OnnxSummary(metadata, frozenset(op_types))


class CountedFields:
    """Reads the fields of one file's ranges, as `keyed_fields` does, up to `MOST_FIELDS` in all."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        """Take the file."""
        self._data = data
        self._left = MOST_FIELDS

    def __call__(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield key, start and end of the payload of every field in a range.

        Raises:
            ValueError: The range is no message, or the file has too many fields.
        """
        for field in keyed_fields(self._data, start, end):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"more than {MOST_FIELDS} fields")
            yield field


def fields(data: mmap.mmap | bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the payload of every field in a range, except of fixed-size numbers.

    A payload is the bytes of a text, message or packed list, or a number that `varint` reads.

    Raises:
        ValueError: The range is no message.
    """
    for key, start, stop in keyed_fields(data, position, end):
        if key & 7 not in (_FIXED64, _FIXED32):
            yield key >> 3, start, stop


def keyed_fields(data: mmap.mmap | bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield key, start and end of the payload of every field in a range.

    A key is ``number << 3 | type``. A parser passes over a field whose number it knows under another type, so what
    matters of a message is found by its keys.

    Raises:
        ValueError: The range is no message.
    """
    while position < end:
        key = data[position]
        if key < 0x80:
            position += 1
        else:
            key, position = varint(data, position, end)
        wire_type = key & 7
        if not 8 <= key < 1 << 32:
            raise ValueError(f"impossible field at byte {position}")
        start = position
        if wire_type == _BYTES:
            length, start = (data[position], position + 1) if position < end else (0x80, position)
            if length >= 0x80:  # most lengths take one byte
                length, start = varint(data, position, end)
            position = start + length
            if length > end - start:
                raise ValueError(f"{length} bytes announced at byte {start}, {end - start} left")
        elif wire_type == _VARINT:
            if position < end and data[position] < 0x80:
                position += 1
            else:
                _, position = varint(data, position, end)
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
            if position > end:
                raise ValueError(f"ends within a number at byte {position}")
        else:
            raise ValueError(f"impossible field type {wire_type} at byte {position}")
        yield key, start, position


def varint(data: mmap.mmap | bytes, position: int, end: int) -> tuple[int, int]:
    """Return a base-128 number, least significant group first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError(f"ends within a number at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"impossible number at byte {position}")
