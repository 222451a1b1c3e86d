"""torch's zip container: ``<name>/data.pkl`` and one uncompressed record ``<name>/data/<key>`` per storage.

Facts: torch/serialization.py and caffe2/serialize (record names, ``byteorder``, ``version``); a TorchScript
archive also holds ``code/`` and ``constants.pkl``.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from typing import IO, Any

import torch
from torch import Tensor

from edgedet_models.checkpoint.budget import MalformedPickle, ReadBudget
from edgedet_models.checkpoint.pickle_machine import run_pickle
from edgedet_models.checkpoint.pickle_torch import TorchCalls
from edgedet_models.checkpoint.storage import Storage, bytes_tensor

__all__ = ["read_torch_zip"]

MAX_EXPANSION = 20
"""A compressed archive may hold at most this many times its own size (and 64 MB in any case)."""

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError),  # what zipfile lets through
)


def read_torch_zip(file: IO[bytes]) -> Any:
    """Return the top-level object of a torch zip file.

    Raises:
        MalformedPickle: No torch archive, damaged, or a TorchScript archive.
        RefusedPickle: Its pickle wants to run something.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _read(archive, file.seek(0, os.SEEK_END))
    except _DAMAGE as e:
        if not _has_directory(file):
            raise MalformedPickle(
                f"a zip file cut short: {file.seek(0, os.SEEK_END)} bytes, and no directory at its end; copy or"
                " download it again"
            ) from None
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise MalformedPickle(f"damaged or truncated zip archive ({reason})") from None


def _has_directory(file: IO[bytes]) -> bool:
    """Return whether an archive has its directory, whatever that may say."""
    try:
        return zipfile.is_zipfile(file)
    except _DAMAGE:  # there is one, and the large form of its end is damaged
        return True


def _read(archive: zipfile.ZipFile, file_bytes: int) -> Any:
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if (name.endswith("/data.pkl") and name.count("/") == 1) or name == "data.pkl"]
    if len(pickles) != 1:
        kind = "an ONNX or other zip" if not pickles else "an ambiguous zip"
        raise MalformedPickle(f"{kind} archive without torch's data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(root + "code/") for name in entries) or root + "constants.pkl" in entries:
        raise MalformedPickle(
            "a TorchScript archive, which is code, not a checkpoint; give the training checkpoint or an ONNX file"
        )
    _check_entries(list(entries.values()), file_bytes)
    budget = ReadBudget(file_bytes)
    order = archive.read(root + "byteorder") if root + "byteorder" in entries else b"little"
    if order.strip() != b"little":
        raise MalformedPickle("written on a big-endian machine, which is not supported")
    cache: dict[str, Tensor] = {}

    def load_storage(key: str, dtype: torch.dtype, numel: int) -> Storage:
        if key not in cache:
            name = f"{root}data/{key}"
            if name not in entries:
                raise MalformedPickle(f"the record of storage {key[:40]!r} is missing")
            budget.charge(entries[name].file_size)
            cache[key] = bytes_tensor(archive.read(name), torch.uint8)
        need = numel * dtype.itemsize
        if need > len(cache[key]):
            raise MalformedPickle(f"storage {key[:40]!r}: needs {need} bytes, has {len(cache[key])}")
        return Storage(cache[key][:need].view(dtype), dtype, numel)

    budget.charge(entries[pickles[0]].file_size)
    return run_pickle(io.BytesIO(archive.read(pickles[0])), TorchCalls(load_storage, budget))


def _check_entries(entries: list[zipfile.ZipInfo], file_bytes: int) -> None:
    """Refuse zip bombs: entries that overlap, that would expand beyond reason, or in a method that torch never uses.

    LZMA and bzip2 reserve what their headers claim (up to 4 GB) before the first byte is decoded.
    """
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise MalformedPickle(
                f"a zip archive compressed by method {entry.compress_type}: expected stored or deflated records"
            )
    stored = sum(e.file_size for e in entries if e.compress_type == zipfile.ZIP_STORED)
    packed = sum(e.file_size for e in entries if e.compress_type != zipfile.ZIP_STORED)
    if stored > file_bytes or packed > max(MAX_EXPANSION * file_bytes, 1 << 26):
        raise MalformedPickle(f"claims {stored + packed} bytes of content in a file of {file_bytes}")
