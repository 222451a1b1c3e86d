"""What an engine loads: a model file, or an ONNX model in memory."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ModelSource", "label"]

ModelSource = Path | bytes
"""Path of a model file, or a serialized ONNX model."""


def label(source: ModelSource) -> str:
    """Return what messages call a model."""
    return str(source) if isinstance(source, Path) else "the model in memory"
