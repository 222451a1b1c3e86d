"""Which project wrote a foreign file, where its metadata say so.

Ultralytics' exporter writes ``author``, ``description`` ("Ultralytics YOLO11n model trained on …"), ``version``,
``license``, ``task``, ``stride``, ``names``, ``imgsz`` and ``args``. A file without such entries may come from anybody:
how it decodes its boxes tells how to run it, not whose license its weights have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Origin", "origin_of"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file's metadata say of its making.

    Attributes:
        family: ``ultralytics``, or None where nothing names the project.
        variant: Such as ``yolo26n``; None where nothing says it.
        args: Arguments of the export, by name; empty where there are none.
        size_hw: Input size of the export, in pixels; None where nothing says it.
    """

    family: str | None
    variant: str | None
    args: Mapping[str, Any]
    size_hw: tuple[int, int] | None = None


def origin_of(metadata: Mapping[str, str]) -> Origin:
    """Read a file's metadata.

    Args:
        metadata: ``metadata_props``.
    """
    described = re.match(r"ultralytics\s+(\S+)\s+model", metadata.get("description", ""), re.IGNORECASE)
    is_theirs = described is not None or metadata.get("author", "").strip().lower() == "ultralytics"
    variant = described.group(1).lower() if described else None
    args = _parsed(metadata.get("args", ""))
    options = {key: item for key, item in args.items() if isinstance(key, str)} if isinstance(args, dict) else {}
    size = _parsed(metadata.get("imgsz", ""))
    size = [size, size] if type(size) is int else size
    known = isinstance(size, (list, tuple)) and len(size) == 2 and all(type(s) is int and 0 < s <= 16384 for s in size)
    return Origin("ultralytics" if is_theirs else None, variant, options, (size[0], size[1]) if known else None)


def _parsed(text: str) -> Any:
    """Return the value of a Python literal; None where the text is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
