"""The model that is meant when none is named, and where its bundle lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedet_runtime.errors import InputError

__all__ = ["BUILTIN", "DEFAULT_OUT", "default_bundle", "is_model", "split_model"]

BUILTIN = "edgecode-n"
"""Name of the built-in model's checkpoint, without importing the package that ships it (which needs torch)."""

DEFAULT_OUT = Path("build")
MODEL_SUFFIXES = (".onnx", ".xml")
TRAINING_SUFFIXES = (".pt", ".pth", ".ckpt", ".weights", ".safetensors")


def default_bundle() -> Path:
    """Return the folder that ``edgedet export`` without a checkpoint writes."""
    return DEFAULT_OUT / BUILTIN


def is_model(argument: str) -> bool:
    """Return whether an argument is a model: a bundle folder, or a name that ends like a model file.

    Training checkpoints count too, so that handing one to ``detect`` ends in a sentence about exporting it
    rather than in one about pictures.
    """
    path = Path(argument)
    if path.suffix.lower() in MODEL_SUFFIXES + TRAINING_SUFFIXES:
        return True
    from edgedet_runtime.bundle.manifest import MANIFEST
    from edgedet_runtime.bundle.slot_state import STATE_FILE

    return path.is_dir() and ((path / MANIFEST).is_file() or (path / STATE_FILE).is_file())


def split_model(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Split ``[MODEL] SOURCE…``: the first argument is the model if `is_model` says so, else the default is
    meant.

    Returns:
        The model's path and the sources.

    Raises:
        InputError: No source is left, or the default model was meant and has not been exported.
    """
    if arguments and is_model(arguments[0]):
        model, sources = Path(arguments[0]), list(arguments[1:])
        if model.suffix.lower() in TRAINING_SUFFIXES:
            raise InputError(
                f"{model}: expected a bundle or a .onnx or .xml file, got a training checkpoint;"
                f" run: edgedet export {model}"
            )
    else:
        model, sources = default_bundle(), list(arguments)
        if arguments and not is_model(str(model)):
            raise InputError(
                f"{arguments[0]}: not a model (bundle folder, .onnx or .xml), so the default model is meant;"
                f" expected it in {model}, got nothing there; run: edgedet export --int8"
            )
    if not sources:
        raise InputError("SOURCE: expected an image, folder, glob, video or camera index, got nothing")
    return model, sources
