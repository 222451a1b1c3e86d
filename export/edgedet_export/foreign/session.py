"""ONNX models opened for checking a file that somebody else made: quiet, and a refusal is the file's fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from edgedet_runtime.engines.onnxruntime_engine import open_session as open_in_engine
from edgedet_runtime.errors import EngineError, ModelFileError

__all__ = ["open_session", "run"]


def open_session(model: onnx.ModelProto | str, *, what: str = "ONNX model") -> ort.InferenceSession:
    """Open a model, or the file at a path (with its external data).

    Raises:
        ModelFileError: onnxruntime does not take the model; `what` names it in the message.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    source = Path(model) if isinstance(model, str) else model.SerializeToString()
    try:
        return open_in_engine(source, options, what=what)
    except EngineError as e:
        raise ModelFileError(f"{what}: expected what onnxruntime can run, got: {_line(e)}") from None


def run(session: ort.InferenceSession, feed: dict[str, Any], *, what: str = "ONNX model") -> list[Any]:
    """Run a session on a feed and return all outputs.

    Raises:
        ModelFileError: The run failed, such as by shapes that do not fit; `what` names the model in the message.
    """
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as e:  # onnxruntime raises pybind classes that share no public base
        raise ModelFileError(f"{what}: onnxruntime failed while running it: {_line(e)}") from None
    return outputs


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__
