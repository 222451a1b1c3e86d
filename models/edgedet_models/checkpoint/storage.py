"""Tensors over the raw storages of a checkpoint, checked against their bounds before torch sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgedet_models.checkpoint.budget import MalformedPickle, ReadBudget, brief

__all__ = ["STORAGE_DTYPES", "Storage", "bytes_tensor", "strided_tensor"]

STORAGE_DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


class Storage:
    """A typed run of numbers that tensors view.

    Attributes:
        data: 1-D tensor of the storage's dtype; None while a legacy file is only surveyed.
        dtype: Element type.
        numel: Elements.
    """

    __slots__ = ("data", "dtype", "numel")

    def __init__(self, data: Tensor | None, dtype: torch.dtype, numel: int) -> None:
        """Keep what is given."""
        self.data = data
        self.dtype = dtype
        self.numel = numel


def bytes_tensor(raw: bytes | bytearray, dtype: torch.dtype) -> Tensor:
    """Return a 1-D tensor over a copy of `raw`, whose length must be a multiple of the element size."""
    if len(raw) == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(dtype)


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise MalformedPickle(f"tensor {what}: expected a whole number, got {brief(value)}")
    return value


def _sizes(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)) or len(values) > 64:
        raise MalformedPickle(f"tensor {what}: expected a short list of numbers")
    return tuple(_whole(v, what) for v in values)


def strided_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None, *, budget: ReadBudget
) -> Tensor:
    """Return the view of `storage` that a pickle describes.

    A view may have more elements than its storage (stride 0, or strides that overlap). Whatever copies it takes
    their memory, so they are charged to the budget.

    Raises:
        MalformedPickle: It reaches beyond the storage, is not described by whole numbers, or the budget is used up.
    """
    if not isinstance(storage, Storage):
        raise MalformedPickle(f"tensor: expected a storage, got {type(storage).__name__}")
    sizes, strides, start = _sizes(size, "size"), _sizes(stride, "stride"), _whole(offset, "offset")
    if len(sizes) != len(strides):
        raise MalformedPickle(f"tensor: {len(sizes)} sizes, but {len(strides)} strides")
    width = dtype.itemsize if dtype is not None else storage.dtype.itemsize
    available = storage.numel * storage.dtype.itemsize // width
    numel = math.prod(sizes)
    last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if numel and last >= available:
        raise MalformedPickle(f"tensor of shape {sizes}: reaches element {last} of a storage of {available}")
    budget.charge(max(0, numel - available) * width)
    if not numel and math.prod(n for n in sizes if n) >= 1 << 62:
        raise MalformedPickle("an empty tensor of a shape that has no end")
    if storage.data is None or not numel:
        return torch.empty(0 if numel else sizes, dtype=dtype or storage.dtype)
    flat = storage.data if dtype is None else storage.data.view(torch.uint8).view(dtype)
    return torch.as_strided(flat, sizes, strides, start)
