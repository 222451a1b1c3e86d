"""Darknet's pair of files: ``.cfg`` text and ``.weights``, a header and then nothing but float32.

Header: int32 major, minor, revision; then the number of pictures seen, uint64 from version 0.2 on and uint32
    before
(``load_weights_upto`` in darknet's ``parser.c``).
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_runtime.errors import CheckpointError

__all__ = ["read_darknet"]

MAX_TEXT_BYTES = 4 << 20


def read_darknet(path: Path) -> Checkpoint:
    """Read a darknet network, given either of its two files.

    The other file is found beside it: of the same name; for weights also the cfg whose name theirs begins
    with (darknet appends ``_last``, ``_best``, ``_10000``); else the only one of its kind in the folder. A
    ``.names`` file is found in the same way, and may be absent.

    Args:
        path: The ``.weights`` or the ``.cfg`` file.

    Returns:
        Content: ``cfg`` (text), ``cfg_name``, ``header`` (dict of integers), ``weights`` (float32 vector) and
        ``names`` (list of class names; empty without a ``.names`` file).

    Raises:
        CheckpointError: A file is missing, ambiguous, truncated or not of its kind.
    """
    path = Path(path)
    weights_path = path if path.suffix == ".weights" else _companion(path, ".weights")
    cfg_path = path if path.suffix == ".cfg" else _companion(path, ".cfg")
    if weights_path is None or cfg_path is None:
        wanted = ".cfg" if cfg_path is None else ".weights"
        raise CheckpointError(
            f"{path}: expected its {wanted} beside it, as {path.with_suffix(wanted).name} or the"
            f" only {wanted} in {path.parent}; got none that fits"
        )
    data = _bytes(weights_path)
    header, weights = _parse_weights(data, weights_path)
    names_path = _companion(weights_path, ".names") or _companion(cfg_path, ".names")
    names = [n.strip() for n in _text(names_path).splitlines() if n.strip()] if names_path else []
    content = {
        "cfg": _text(cfg_path),
        "cfg_name": str(cfg_path),
        "header": header,
        "weights": weights,
        "names": names,
    }
    return Checkpoint(weights_path, "darknet", hashlib.sha256(data).hexdigest(), content, size_bytes=len(data))


def _companion(path: Path, suffix: str) -> Path | None:
    same = path.with_suffix(suffix)
    if same.is_file():
        return same
    others = sorted(p for p in path.parent.glob(f"*{suffix}") if p.is_file())
    by_prefix = [p for p in others if path.stem.startswith((f"{p.stem}_", f"{p.stem}."))]
    if by_prefix:
        return max(by_prefix, key=lambda p: len(p.stem))
    return others[0] if len(others) == 1 else None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path}: expected a readable file, got {e.strerror}") from None


def _text(path: Path) -> str:
    data = _bytes(path)
    if len(data) > MAX_TEXT_BYTES or b"\0" in data:
        raise CheckpointError(f"{path}: expected a text file of at most {MAX_TEXT_BYTES} bytes, got other data")
    return data.decode("utf-8", errors="replace")


def _parse_weights(data: bytes, path: Path) -> tuple[dict[str, int], Tensor]:
    if len(data) < 16:
        raise CheckpointError(f"{path}: expected a darknet weights file, got {len(data)} bytes, less than its header")
    major, minor, revision = struct.unpack_from("<3i", data)
    if not (0 <= major < 1000 and 0 <= minor < 1000 and 0 <= revision < 1000):
        raise CheckpointError(
            f"{path}: expected a darknet weights file of version 0.x, got version {major}.{minor}.{revision}"
        )
    seen_format = "<Q" if major * 10 + minor >= 2 else "<I"
    start = 12 + struct.calcsize(seen_format)
    if len(data) < start or (len(data) - start) % 4:
        raise CheckpointError(
            f"{path}: expected whole float32 numbers after {start} bytes of header, got"
            f" {len(data)} bytes in all: the file is truncated or damaged"
        )
    (seen,) = struct.unpack_from(seen_format, data, 12)
    weights = torch.from_numpy(np.frombuffer(data, dtype="<f4", offset=start).astype(np.float32))
    return {"major": major, "minor": minor, "revision": revision, "seen": seen}, weights
