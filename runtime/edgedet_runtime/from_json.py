"""JSON files, and frozen dataclasses out of JSON data by their annotations: profiles, manifests, plans."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.short import short
from edgedet_runtime.short_file import read_short_text

__all__ = ["from_json", "parse_json", "read_json"]

T = TypeVar("T")


def read_json(path: Path) -> Any:
    """Return the data of a JSON file.

    Raises:
        ModelFileError: It cannot be read, or is no JSON: truncated, not UTF-8, nested without end, or with NaN,
            infinity or a number that no machine number holds.
    """
    try:
        return parse_json(read_short_text(path))
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError) as e:
        reason = "it is nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise ModelFileError(f"{path}: cannot be read as JSON ({reason})") from None


def parse_json(text: str) -> Any:
    """Return the data of JSON text.

    Raises:
        ValueError: It is no JSON, or has NaN, infinity or a number that no machine number holds.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_machine_int)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _machine_int(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= (number := int(text)) < 1 << 64:
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def from_json(kind: type[T], data: Any, *, at: str = "") -> T:
    """Build a dataclass of numbers, text, tuples, dicts by text, Literals, None and such dataclasses.

    Entries that the dataclass does not have are passed over; fields with a default may be absent. A class with a method
    ``from_data(data)`` reads itself.

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
    if hasattr(kind, "from_data"):
        return kind.from_data(data)
    if is_dataclass(kind):
        if not isinstance(data, Mapping):
            raise ValueError(f"{at}: expected an object, got {short(data)}")
        hints = _hints(kind)  # type: ignore[arg-type]
        absent = [f.name for f in fields(kind) if f.name not in data and not _has_default(f)]
        if absent:
            raise ValueError(f"{at}: {absent[0]} is missing")
        given = [f.name for f in fields(kind) if f.name in data]
        return kind(**{name: _build(hints[name], data[name], f"{at}.{name}") for name in given})  # type: ignore[operator]
    if origin in (Union, types.UnionType):
        (kind,) = [a for a in arguments if a is not type(None)]
        return None if data is None else _build(kind, data, at)
    if origin is tuple:
        if not isinstance(data, list) or (arguments[-1] is not Ellipsis and len(data) != len(arguments)):
            raise ValueError(f"{at}: expected a list of {kind}, got {short(data)}")
        kinds = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(k, value, f"{at}[{i}]") for i, (k, value) in enumerate(zip(kinds, data, strict=True)))
    if origin is dict:
        if not isinstance(data, Mapping):
            raise ValueError(f"{at}: expected an object, got {short(data)}")
        return {str(k): _build(arguments[1], v, f"{at}.{k}") for k, v in data.items()}
    if origin is Literal:
        if data not in arguments:
            raise ValueError(f"{at}: expected one of {arguments}, got {short(data)}")
        return data
    return _scalar(kind, data, at)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return a dataclass's annotations; evaluating them took half the time of reading a manifest."""
    return get_type_hints(kind)


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _scalar(kind: type, data: Any, at: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise ValueError(f"{at}: expected a number below 1.8e308, got one of {data.bit_length()} bits") from None
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise ValueError(f"{at}: expected {kind.__name__}, got {short(data)}")
    return data
