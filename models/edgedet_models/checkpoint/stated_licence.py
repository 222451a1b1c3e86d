"""The license that a file states for itself, in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_runtime.licence_text import licence_of

__all__ = ["stated_licence"]


def stated_licence(checkpoint: Checkpoint) -> str | None:
    """Return the license that a checkpoint states, beside its weights or in its header; None where it states none."""
    content = checkpoint.content if isinstance(checkpoint.content, Mapping) else {}
    meta = content.get("meta")
    places: list[Mapping[Any, Any]] = [content, checkpoint.metadata, meta if isinstance(meta, Mapping) else {}]
    return next((found for place in places if (found := licence_of(place)) is not None), None)
