"""The contract that training stores beside the weights."""

from __future__ import annotations

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_runtime.spec import ModelSpec

__all__ = ["SPEC_KEY", "restore", "stored_spec"]

SPEC_KEY = "edgedet"
"""Key of the spec, as JSON, in a checkpoint's metadata."""


def stored_spec(checkpoint: Checkpoint, *, family: str, classes: int) -> ModelSpec | None:
    """Return the spec in a checkpoint's metadata, or None where there is none for this family and class count.

    Raises:
        SpecError: There is one that is damaged.
    """
    text = checkpoint.metadata.get(SPEC_KEY)
    spec = ModelSpec.from_json(text) if text else None
    return spec if spec is not None and spec.family == family and len(spec.classes) == classes else None


def restore(built: ModelSpec, stored: ModelSpec | None) -> ModelSpec:
    """Return the spec of a network as built, with the stored names, thresholds, input size and resizing."""
    if stored is None:
        return built
    sized = built.with_size(*stored.input.size_hw)
    return sized.replace(classes=stored.classes, thresholds=stored.thresholds, resize=stored.resize)
