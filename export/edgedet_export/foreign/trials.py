"""A file that somebody else made meets each engine in a child process first; see `engines.trial_load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from edgedet_export.foreign.file_input import INPUT_NAME, FileInput
from edgedet_runtime.engines import EngineName
from edgedet_runtime.engines.trial_load import TrialInput, try_in_child
from edgedet_runtime.errors import EngineDeathError, EngineError, MissingDependencyError, ModelFileError
from edgedet_runtime.spec import ModelSpec

__all__ = ["engines_that_survive", "try_prepared", "try_untouched"]


def try_untouched(path: Path, file_input: FileInput) -> None:
    """Load the untouched file in onnxruntime and run it once, in a child.

    Raises:
        ModelFileError: onnxruntime does not take the file.
        EngineDeathError: It died of it, hung, or took more memory than it may.
    """
    size = (file_input.height, file_input.width)
    channels = 1 if file_input.gray else 3
    shape = (1, *size, channels) if file_input.channels_last else (1, channels, *size)
    _try(path, TrialInput(file_input.name, file_input.dtype, shape), str(path))


def try_prepared(proto: onnx.ModelProto, size_hw: tuple[int, int], path: Path) -> None:
    """Load a file whose input was brought to `images`, float32 (1, 3, H, W), and run it once, in a child.

    Raises:
        ModelFileError: onnxruntime does not take it.
        EngineDeathError: It died of it, hung, or took more memory than it may.
    """
    _try(proto.SerializeToString(), TrialInput(INPUT_NAME, "float32", (1, 3, *size_hw)), str(path))


def _try(source: Path | bytes, trial: TrialInput, name: str) -> None:
    try:
        try_in_child("onnxruntime", source, trial)
    except EngineDeathError:
        raise
    except EngineError as e:
        raise ModelFileError(f"{name}: expected what onnxruntime can run, got: {' '.join(str(e).split())}") from None


def engines_that_survive(
    proto: onnx.ModelProto, spec: ModelSpec, engines: Sequence[EngineName], *, optional: Sequence[EngineName] = ()
) -> tuple[tuple[EngineName, ...], tuple[str, ...]]:
    """Load a model made from a foreign file in each engine, in a child.

    Args:
        proto: The model.
        spec: Its contract.
        engines: Engines that shall run it.
        optional: Those of them that the export can do without.

    Returns:
        The engines that did not die of it, and a note for each that did. An engine that refuses it in words stays, for
        the export to deal with.

    Raises:
        EngineDeathError: An engine that is not optional died of it, hung, or took more memory than it may.
    """
    left: list[EngineName] = []
    notes: list[str] = []
    for engine in engines:
        try:
            try_in_child(engine, proto.SerializeToString(), spec, what="the imported network")
        except EngineDeathError as e:
            if engine not in optional:
                raise
            notes.append(f"{engine}: left out: {e}")
            continue
        except (EngineError, MissingDependencyError):
            pass  # said again, and judged, where the file is checked
        left.append(engine)
    return tuple(left), tuple(notes)
