"""What an engine loads: a model file, its content as it was read and verified, or an ONNX model in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ModelContent", "ModelSource", "content_of", "label"]


@dataclass(frozen=True, slots=True)
class ModelContent:
    """A model file's content: engines load these bytes and never open the file.

    Attributes:
        path: Where it was read; for messages, and its suffix says the format.
        model: Content of the .onnx or .xml file.
        weights: Content of the .bin file that goes with an .xml file; None where there is none.
    """

    path: Path
    model: bytes = field(repr=False)
    weights: bytes | None = field(default=None, repr=False)


ModelSource = Path | bytes | ModelContent
"""Path of a model file, a serialized ONNX model, or the content of a model file."""


def label(source: ModelSource) -> str:
    """Return what messages call a model."""
    if isinstance(source, ModelContent):
        return str(source.path)
    return str(source) if isinstance(source, Path) else "the model in memory"


def content_of(source: ModelSource) -> bytes | None:
    """Return the model itself where it is in memory; None where it is to be read."""
    if isinstance(source, ModelContent):
        return source.model
    return source if isinstance(source, bytes) else None
