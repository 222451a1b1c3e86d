"""`read_checkpoint`: which reader a file needs, and one clear line if none can read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from edgedet_models.checkpoint.budget import MalformedPickle
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.pickle_machine import RefusedPickle
from edgedet_models.checkpoint.safetensors import looks_like_safetensors, read_safetensors
from edgedet_models.checkpoint.torch_legacy import read_torch_legacy
from edgedet_models.checkpoint.torch_zip import read_torch_zip
from edgedet_runtime.bundle.manifest import file_sha256
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.mistaken import HEAD_BYTES, what_it_is

__all__ = ["read_checkpoint"]

DARKNET_SUFFIXES = (".cfg", ".weights")
EXPECTED = "expected a checkpoint (.pt or .pth of torch.save, .safetensors, or darknet .cfg with .weights)"


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a training checkpoint without importing or calling anything that it names.

    Args:
        path: A file of ``torch.save`` (zip or legacy container), safetensors, or darknet's .cfg or .weights.

    Returns:
        Its content as plain data; tensors on the CPU in the dtype of the file.

    Raises:
        CheckpointError: No such file, not a checkpoint, damaged, or made to run something when loaded.
    """
    path = Path(path)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise CheckpointError(f"{path}: {EXPECTED}, got {got}")
    try:
        if path.suffix.lower() in DARKNET_SUFFIXES:
            from edgedet_models.checkpoint.darknet import read_darknet

            return read_darknet(path)
        with path.open("rb") as file:
            return _read(path, file)
    except RefusedPickle as e:
        raise CheckpointError(
            f"{path}: the checkpoint {e} when it is loaded; refused, nothing was run; get the weights from"
            " another source, and do not load this file with torch.load"
        ) from None
    except MalformedPickle as e:
        raise CheckpointError(f"{path}: {EXPECTED}, got a file that cannot be read: {e}") from None
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from None


def _read(path: Path, file: IO[bytes]) -> Checkpoint:
    head = file.read(HEAD_BYTES)
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if not head:
        raise MalformedPickle("it is empty")
    if head.startswith(b"PK"):
        return Checkpoint(path, "torch-zip", file_sha256(path), read_torch_zip(file), size_bytes=size)
    if looks_like_safetensors(head):
        tensors, metadata = read_safetensors(file)
        return Checkpoint(path, "safetensors", file_sha256(path), tensors, metadata, size)
    try:
        content = read_torch_legacy(file)
    except MalformedPickle as e:
        hint = _what_it_is(head)
        raise MalformedPickle(hint or str(e)) from None
    return Checkpoint(path, "torch-legacy", file_sha256(path), content, size_bytes=size)


def _what_it_is(head: bytes) -> str | None:
    """Name well-known files that are given in place of a checkpoint; None for what starts as a binary pickle
    does."""
    if head.startswith(b"\x08"):
        return "an ONNX model or other protocol buffer (give ONNX models a name that ends in .onnx)"
    if head.startswith(b"\x80"):
        return None
    return what_it_is(head) or "an unknown binary format"
