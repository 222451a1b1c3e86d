"""safetensors: a JSON header with name, dtype, shape and byte range per tensor, then the numbers.

The format is simple enough to be read here, with every range checked. Source: the format section of the
safetensors project's README.
"""

from __future__ import annotations

import json
import math
import os
from typing import IO, Any

import torch
from torch import Tensor

from edgedet_models.checkpoint.budget import MalformedPickle, brief
from edgedet_models.checkpoint.storage import bytes_tensor

__all__ = ["looks_like_safetensors", "read_safetensors"]

MAX_HEADER_BYTES = 100_000_000

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def looks_like_safetensors(head: bytes) -> bool:
    """Tell from the first nine bytes: a header length, then the JSON's brace."""
    return len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES


def read_safetensors(file: IO[bytes]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors by name and the text metadata.

    Raises:
        MalformedPickle: Truncated, or the header contradicts itself.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER_BYTES, file_bytes - 8):
        raise MalformedPickle(f"truncated: the header claims {length} bytes of a file of {file_bytes}")
    try:
        header = json.loads(file.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise MalformedPickle(f"its header is no JSON ({e})") from None
    if not isinstance(header, dict):
        raise MalformedPickle("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise MalformedPickle("its metadata is not text")
    start = 8 + length
    ranges = {name: _byte_range(name, entry, file_bytes - start) for name, entry in header.items()}
    if sum(end - begin for begin, end in ranges.values()) > file_bytes - start:
        raise MalformedPickle("its tensors overlap")
    tensors = {}
    for name, entry in header.items():
        begin, end = ranges[name]
        file.seek(start + begin)
        tensors[name] = bytes_tensor(file.read(end - begin), _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def _byte_range(name: str, entry: Any, available: int) -> tuple[int, int]:
    """Return the tensor's byte range after checking it against dtype, shape and file."""
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype = fields.get("dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise MalformedPickle(f"tensor {name[:60]!r}: dtype {brief(dtype)} is not supported")
    shape = _whole_numbers(name, fields.get("shape"))
    offsets = _whole_numbers(name, fields.get("data_offsets"))
    begin, end = offsets if len(offsets) == 2 else (1, 0)
    if begin > end or end > available:
        raise MalformedPickle(f"truncated: tensor {name[:60]!r} lies beyond the end of the file")
    if math.prod(shape) * _DTYPES[dtype].itemsize != end - begin or math.prod(n for n in shape if n) >= 1 << 62:
        raise MalformedPickle(f"tensor {name[:60]!r}: {end - begin} bytes do not make its shape")
    return begin, end


def _whole_numbers(name: str, values: Any) -> list[int]:
    if not isinstance(values, list) or len(values) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in values):
        raise MalformedPickle(f"tensor {name[:60]!r}: shape or offsets are not whole numbers")
    return values
