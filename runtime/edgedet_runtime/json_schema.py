"""JSON Schemas of frozen dataclasses, from their annotations: the other side of `edgedet_runtime.from_json`."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["json_schema"]

_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}


def json_schema(kind: type, *, title: str, elsewhere: dict[type, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a dataclass.

    Args:
        kind: The dataclass; of numbers, text, tuples, dicts by text, Literals, None and such dataclasses.
        title: Title of the document.
        elsewhere: Classes whose schema is given, not derived.
    """
    definitions: dict[str, Any] = {}
    given = elsewhere or {}
    body = _object(kind, definitions, given)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **body,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: Any, definitions: dict[str, Any], given: dict[type, dict[str, Any]]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    properties = {f.name: _schema(hints[f.name], definitions, given) for f in fields(kind)}
    return {"type": "object", "required": needed, "properties": properties}


def _schema(kind: Any, definitions: dict[str, Any], given: dict[type, dict[str, Any]]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and kind in given:
        return given[kind]
    if is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _object(kind, definitions, given)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(a, definitions, given) for a in arguments]}
    if kind is type(None):
        return {"type": "null"}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], definitions, given)}
    if origin is tuple:
        items = [_schema(a, definitions, given) for a in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions, given)}
    if origin is Literal:
        return {"enum": list(arguments)}
    return {"type": _SCALARS[kind]}
