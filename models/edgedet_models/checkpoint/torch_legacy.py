"""torch's container before 1.6: pickles one after the other, then the raw storages.

Layout: magic number, protocol version and system information (three pickles), the object's pickle, a pickled
list of storage keys, then per key its length as int64 and its elements. Facts: torch/serialization.py,
``_legacy_load``.

The elements' width is known only from the object's pickle, which refers to storages by key before they come.
It is
therefore run twice: once to survey keys and types, and again when the storages' positions are known.
"""

from __future__ import annotations

import mmap
import struct
from typing import IO, Any

import torch

from edgedet_models.checkpoint.budget import MalformedPickle, ReadBudget, brief
from edgedet_models.checkpoint.pickle_machine import Global, run_pickle
from edgedet_models.checkpoint.pickle_torch import TorchCalls
from edgedet_models.checkpoint.storage import Storage, bytes_tensor

__all__ = ["LEGACY_MAGIC", "read_torch_legacy"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def read_torch_legacy(file: IO[bytes]) -> Any:
    """Return the top-level object of a file that starts with a pickle.

    Raises:
        MalformedPickle: No torch file (a plain pickle, say), or damaged.
        RefusedPickle: One of its pickles wants to run something.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        budget = ReadBudget(len(data))
        first = run_pickle(data, TorchCalls(_no_storage, budget))
        if type(first) is not int or first != LEGACY_MAGIC:
            kind = first.path if isinstance(first, Global) else type(first).__name__
            raise MalformedPickle(f"a plain pickle (of a {kind}), not written by torch.save")
        protocol = run_pickle(data, TorchCalls(_no_storage, budget))
        if type(protocol) is not int or protocol != PROTOCOL_VERSION:
            raise MalformedPickle(f"legacy protocol: expected {PROTOCOL_VERSION}, got {brief(protocol)}")
        system = run_pickle(data, TorchCalls(_no_storage, budget))
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise MalformedPickle("written on a big-endian machine, which is not supported")
        start = data.tell()
        survey: dict[str, Storage] = {}

        def note(key: str, dtype: torch.dtype, numel: int) -> Storage:
            known = survey.setdefault(key, Storage(None, dtype, numel))
            if known.dtype != dtype:
                raise MalformedPickle(f"storage {key[:40]!r} has two types")
            return known

        run_pickle(data, TorchCalls(note, budget))
        storages = _read_storages(data, survey, budget)
        data.seek(start)
        return run_pickle(data, TorchCalls(lambda key, dtype, numel: storages[key], budget))


def _no_storage(key: str, dtype: torch.dtype, numel: int) -> Storage:
    raise MalformedPickle("a storage before the object")


def _read_storages(data: mmap.mmap, survey: dict[str, Storage], budget: ReadBudget) -> dict[str, Storage]:
    listed = run_pickle(data, TorchCalls(_no_storage, budget))
    keys = [k if isinstance(k, str) else brief(k) for k in listed] if isinstance(listed, list) else []
    if set(keys) != set(survey) or len(keys) != len(survey):
        raise MalformedPickle("its list of storages does not fit its object")
    storages: dict[str, Storage] = {}
    for key in keys:
        dtype = survey[key].dtype
        header = data.read(8)
        numel = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        left = len(data) - data.tell()
        if numel != survey[key].numel or numel * dtype.itemsize > left:
            raise MalformedPickle(f"truncated: storage {key[:40]!r} is not complete")
        storages[key] = Storage(bytes_tensor(data.read(numel * dtype.itemsize), dtype), dtype, numel)
    return storages
