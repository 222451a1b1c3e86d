"""Data for the things that torch, numpy and containers leave in pickles; everything else becomes
`PickledObject`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgedet_models.checkpoint.budget import ITEM, MalformedPickle, ReadBudget, brief
from edgedet_models.checkpoint.content import PickledObject
from edgedet_models.checkpoint.pickle_machine import Global, Pending, safe_key
from edgedet_models.checkpoint.pickle_policy import check_call, normalise
from edgedet_models.checkpoint.storage import STORAGE_DTYPES, Storage, strided_tensor

__all__ = ["LoadStorage", "TorchCalls"]

LoadStorage = Callable[[str, torch.dtype, int], Storage]
"""Gives the storage of a key, as (key, dtype, number of elements)."""

_PLAIN_KINDS = "biufcSU"

MAX_STORAGE_KEY = 256


class TorchCalls:
    """The policy of `run_pickle` for checkpoints: tensors, arrays and containers come alive, nothing else
    does."""

    def __init__(self, load_storage: LoadStorage, budget: ReadBudget) -> None:
        """`load_storage` brings a storage's numbers; `budget` pays for what is made."""
        self._load_storage = load_storage
        self.budget = budget
        self._handlers: dict[str, Callable[..., Any]] = {
            "_codecs.encode": _encode,
            "builtins.bytearray": _bytearray,
            "builtins.dict": self._dict,
            "builtins.frozenset": lambda items=(): frozenset(map(self._key, items)),
            "builtins.list": lambda items=(): list(items),
            "builtins.set": lambda items=(): set(map(self._key, items)),
            "builtins.tuple": lambda items=(): tuple(items),
            "collections.Counter": self._dict,
            "collections.OrderedDict": self._dict,
            "collections.defaultdict": lambda factory=None, items=(): self._dict(items),
            "collections.deque": lambda items=(), maxlen=None: list(items),
            "copyreg.__newobj__": lambda cls, *args: self.new(cls, args, {}),
            "copyreg.__newobj_ex__": lambda cls, args, kwargs: self.new(cls, args, kwargs),
            "copyreg._reconstructor": lambda cls, base, state: self.new(cls, (), {}),
            "numpy.core.multiarray._reconstruct": self._numpy_reconstruct,
            "numpy.core.multiarray.scalar": _numpy_scalar,
            "numpy.dtype": _numpy_dtype,
            "torch.Size": tuple,
            "torch._tensor._rebuild_from_type_v2": lambda make, kind, args, state: self.call(make, args),
            "torch._utils._rebuild_parameter": lambda data, *rest: _tensor(data),
            "torch._utils._rebuild_parameter_with_state": lambda data, *rest: _tensor(data),
            "torch._utils._rebuild_tensor": lambda *args: strided_tensor(*args[:4], budget=self.budget),
            "torch._utils._rebuild_tensor_v2": lambda *args: strided_tensor(*args[:4], budget=self.budget),
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
        }

    def call(self, target: Any, args: Any) -> Any:
        """Answer a call: data for what is known, an inert object for the rest; see `pickle_policy`."""
        if not isinstance(target, Global) or not isinstance(args, tuple):
            raise MalformedPickle("a call without a name or arguments")
        check_call(target)
        handler = self._handlers.get(normalise(target))
        if handler is None:
            return PickledObject(target.path, args)
        self.budget.charge(sum(_copy_bytes(a) for a in args))
        return handler(*args)

    def new(self, target: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Answer a construction without ``__init__``."""
        if not isinstance(target, Global) or not isinstance(args, tuple):
            raise MalformedPickle("a construction without a class or arguments")
        check_call(target, is_new=True)
        if normalise(target) in self._handlers and not kwargs:
            return self.call(target, args)
        if not kwargs:
            return PickledObject(target.path, args)
        self.budget.charge(ITEM * len(args))
        return PickledObject(target.path, (*args, kwargs))

    def persistent(self, pid: Any) -> Any:
        """Answer torch's persistent ids: storages, and (legacy) classes with their source text, which is
        dropped."""
        if not isinstance(pid, tuple) or not pid:
            raise MalformedPickle("a persistent id that torch does not write")
        if pid[0] == "module" and len(pid) > 1:
            return pid[1]
        if pid[0] != "storage" or len(pid) < 5:
            raise MalformedPickle(f"a persistent id of kind {brief(pid[0])}")
        kind, key, _, numel = pid[1:5]
        dtype = STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
        if dtype is None:
            raise MalformedPickle(f"a storage of unknown type {brief(kind.name if isinstance(kind, Global) else kind)}")
        if not isinstance(key, (str, int)) or not isinstance(numel, int) or not 0 <= numel < 1 << 62:
            raise MalformedPickle("a storage without key or size")
        if (isinstance(key, int) and key.bit_length() > 128) or (isinstance(key, str) and len(key) > MAX_STORAGE_KEY):
            raise MalformedPickle("a storage key as long as a book")
        if len(pid) > 5 and pid[5] is not None:
            raise MalformedPickle("a storage that is a view (torch < 0.4): save the checkpoint anew with a newer torch")
        return self._load_storage(str(key), dtype, numel)

    def _key(self, value: Any) -> Any:
        return safe_key(value, self.budget)

    def _dict(self, items: Any = ()) -> dict[Any, Any]:
        pairs = items.items() if isinstance(items, dict) else items
        return {self._key(key): value for key, value in pairs}

    def _tensor_v3(self, *args: Any) -> Tensor:
        storage, offset, size, stride, _, _, dtype, *_ = args
        return strided_tensor(storage, offset, size, stride, _dtype(dtype), budget=self.budget)

    def _numpy_reconstruct(self, *args: Any) -> Pending:
        def finish(state: Any) -> Any:
            if not isinstance(state, tuple) or len(state) != 5:
                raise MalformedPickle("a numpy array without its five fields")
            _, shape, dtype, is_fortran, raw = state
            plain = _plain_dtype(dtype)
            self.budget.charge(2 * _copy_bytes(raw))
            raw = _encode(raw) if isinstance(raw, str) else raw
            if plain is None or not isinstance(raw, bytes):
                return PickledObject("numpy.ndarray", args, state)  # an array of objects
            if not _is_shape(shape) or math.prod(shape) * plain.itemsize != len(raw):
                raise MalformedPickle(f"a numpy array of {len(raw)} bytes, which its shape does not hold")
            return np.frombuffer(raw, dtype=plain).reshape(shape, order="F" if is_fortran is True else "C")

        return Pending(finish)


def _copy_bytes(value: Any) -> int:
    """Return what a constructor that copies its argument may take."""
    if isinstance(value, (bytes, bytearray, str)):
        return len(value)
    return ITEM * len(value) if isinstance(value, (dict, frozenset, list, set, tuple)) else 0


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= 32 and all(type(n) is int and 0 <= n < 1 << 40 for n in value)


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise MalformedPickle(f"parameter: expected a tensor, got {type(value).__name__}")
    return value


def _dtype(value: Any) -> torch.dtype:
    dtype = getattr(torch, value.name, None) if isinstance(value, Global) and value.module == "torch" else None
    if not isinstance(dtype, torch.dtype):
        raise MalformedPickle("a tensor of unknown dtype")
    return dtype


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise MalformedPickle(f"text in encoding {brief(encoding)}")
    return text.encode("latin1")


def _bytearray(*args: Any) -> bytearray:
    if len(args) == 2 and isinstance(args[0], str):
        return bytearray(_encode(*args))
    if len(args) == 1 and isinstance(args[0], (bytes, bytearray)):
        return bytearray(args[0])
    raise MalformedPickle("a bytearray made of neither text nor bytes")


def _numpy_dtype(code: Any, *flags: Any) -> Any:
    if not isinstance(code, str) or len(code) > 16 or "," in code or np.dtype(code).kind not in _PLAIN_KINDS:
        return PickledObject("numpy.dtype", (code, *flags))
    dtype = np.dtype(code)

    def finish(state: Any) -> np.dtype[Any]:
        swapped = isinstance(state, tuple) and len(state) > 1 and state[1] == ">"
        return dtype.newbyteorder(">") if swapped else dtype

    return Pending(finish)


def _plain_dtype(value: Any) -> np.dtype[Any] | None:
    if isinstance(value, Pending):
        value = value.finish(None)
    return value if isinstance(value, np.dtype) and value.kind in _PLAIN_KINDS else None


def _numpy_scalar(dtype: Any, raw: Any = b"") -> Any:
    plain = _plain_dtype(dtype)
    raw = _encode(raw) if isinstance(raw, str) else raw
    if plain is None or not isinstance(raw, bytes) or len(raw) != plain.itemsize:
        return PickledObject("numpy.core.multiarray.scalar", (dtype, raw))
    return np.frombuffer(raw, dtype=plain)[0].item()
