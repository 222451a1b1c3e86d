"""A spec that a user wrote, or that ``inspect --draft-spec`` drafted and the user completed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import EdgedetError, InputError
from edgedet_runtime.from_json import parse_json
from edgedet_runtime.short_file import read_short_text
from edgedet_runtime.spec import ModelSpec

__all__ = ["read_spec_file"]

MAX_BYTES = 4 << 20


def read_spec_file(path: Path) -> ModelSpec:
    """Read a spec, alone or as the part ``spec`` of a draft.

    Raises:
        InputError: The file is missing, is no JSON, leaves fields open, or is no spec.
    """
    try:
        size = path.stat().st_size
        text = read_short_text(path) if size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: expected a spec in JSON, got a file that cannot be read ({e})") from None
    try:
        data = parse_json(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: expected a spec in JSON, got {text[:40]!r} ({e})") from None
    told = data.get("spec", data) if isinstance(data, dict) else data
    questions = data.get("questions", []) if isinstance(data, dict) else []
    open_fields = [name for name in _nulls(told) if name.rpartition(".")[2] not in ("objectness", "scores")]
    if open_fields:
        asked = f"; asked: {' | '.join(map(str, questions))[:400]}" if questions else ""
        raise InputError(f"{path}: expected a value, got null at {', '.join(open_fields)}{asked}")
    try:
        return ModelSpec.from_data(told)
    except EdgedetError as e:
        raise InputError(f"{path}: {e}") from None


def _nulls(value: Any, where: str = "") -> Iterator[str]:
    if value is None:
        yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _nulls(item, f"{where}.{key}".strip("."))
