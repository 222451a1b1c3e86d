"""Frozen dataclasses out of JSON data, by their annotations: what a profile, say, needs to be read again."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["from_json"]

T = TypeVar("T")


def from_json(kind: type[T], data: Any, *, at: str = "") -> T:
    """Build a dataclass of numbers, text, tuples, dicts by text, Literals, None and such dataclasses.

    Entries that the dataclass does not have are passed over.

    Args:
        kind: The dataclass.
        data: What `dataclasses.asdict` gives, after a round trip through JSON.
        at: Where in the document, for messages.

    Raises:
        ValueError: Something is missing or of another type; the message says where.
    """
    built: T = _build(kind, data, at or "document")
    return built


def _build(kind: Any, data: Any, at: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        if not isinstance(data, Mapping):
            raise ValueError(f"{at}: expected an object, got {_short(data)}")
        hints, absent = get_type_hints(kind), [f.name for f in fields(kind) if f.name not in data]
        if absent:
            raise ValueError(f"{at}: {absent[0]} is missing")
        return kind(**{f.name: _build(hints[f.name], data[f.name], f"{at}.{f.name}") for f in fields(kind)})  # type: ignore[operator]
    if origin in (Union, types.UnionType):
        (kind,) = [a for a in arguments if a is not type(None)]
        return None if data is None else _build(kind, data, at)
    if origin is tuple:
        if not isinstance(data, list) or (arguments[-1] is not Ellipsis and len(data) != len(arguments)):
            raise ValueError(f"{at}: expected a list of {kind}, got {_short(data)}")
        kinds = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(k, value, f"{at}[{i}]") for i, (k, value) in enumerate(zip(kinds, data, strict=True)))
    if origin is dict:
        if not isinstance(data, Mapping):
            raise ValueError(f"{at}: expected an object, got {_short(data)}")
        return {str(k): _build(arguments[1], v, f"{at}.{k}") for k, v in data.items()}
    if origin is Literal:
        if data not in arguments:
            raise ValueError(f"{at}: expected one of {arguments}, got {_short(data)}")
        return data
    return _scalar(kind, data, at)


def _scalar(kind: type, data: Any, at: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise ValueError(f"{at}: expected a number below 1.8e308, got one of {data.bit_length()} bits") from None
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise ValueError(f"{at}: expected {kind.__name__}, got {_short(data)}")
    return data


def _short(data: Any) -> str:
    return f"{data!r:.40}"
