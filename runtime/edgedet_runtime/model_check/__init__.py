"""The check of a model file before any engine opens it: one reader per format, one line in `READERS`.

A model file is a program, and engines are native code that trusts it. Each reader walks over the whole file once, in
memory and time that the file's size bounds, and refuses what an engine must not see. To add a format: a file with its
reader, a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgedet_runtime.engines.model_source import ModelContent, ModelSource
from edgedet_runtime.model_check.as_listed import digests_as_listed
from edgedet_runtime.model_check.ir_reader import check_ir
from edgedet_runtime.model_check.onnx_reader import check_onnx
from edgedet_runtime.model_check.outline import Outline

__all__ = ["READERS", "Outline", "check_model"]


def _onnx(source: Path | ModelContent) -> Outline:
    return check_onnx(source) if isinstance(source, Path) else check_onnx(source.path, source.model)


def _ir(source: Path | ModelContent) -> Outline:
    return check_ir(source) if isinstance(source, Path) else check_ir(source.path, source.model, source.weights)


READERS: dict[str, Callable[[Path | ModelContent], Outline]] = {".onnx": _onnx, ".xml": _ir}
"""Suffix of a model file → its reader."""


def check_model(source: ModelSource) -> Outline:
    """Check a model file and what it reads beside itself; where it lies in a bundle, also that they are what it lists.

    Args:
        source: The file, read as ONNX where its suffix is not known; its content; or an ONNX model that this process
            made itself, which is not looked at.

    Returns:
        What the file declares.

    Raises:
        ModelFileError: The file may not reach an engine.
    """
    if isinstance(source, bytes):
        return Outline({})
    path = source.path if isinstance(source, ModelContent) else source
    outline = READERS.get(path.suffix.lower(), _onnx)(source)
    return replace(outline, digests=digests_as_listed(source, outline.files)) if isinstance(source, Path) else outline
