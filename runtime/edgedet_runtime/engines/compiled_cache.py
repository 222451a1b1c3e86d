"""Compiled models that OpenVINO can take up again: compiling INT8 files takes most of the time to the first result.

They lie in the folder ``openvino`` of what ``EDGEDET_CACHE`` names, by default ``$XDG_CACHE_HOME/edgedet``, which is
``~/.cache/edgedet``; ``EDGEDET_CACHE=none`` keeps and takes none. A name is the SHA-256 of all that the result depends
on: the model's content, OpenVINO's version, its settings, the processor's name and instruction sets. So a model that
changes is compiled anew, and where its file lies does not matter.

A compiled model is as good as code, so one is taken only if nobody else could have written it: folder and file belong
to this user or to root, nobody else may write to them, and the file is no link. Its content begins with its own
SHA-256, which finds what a full disk or a worn card cut off. Whatever is wrong with an entry, the model is compiled;
where the folder cannot be written, nothing is kept. Neither is an error.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedet_runtime.choices import CACHE_VARIABLE, NO_CACHE
from edgedet_runtime.cpu import this_processor
from edgedet_runtime.whole_file import write_whole_file

__all__ = ["cache_folder", "cache_key", "read_entry", "write_entry"]

_LOGGER = logging.getLogger(__name__)

_FORMAT = "1"
_SUFFIX = ".blob"
_MOST_ENTRIES = 16
_DIGEST = hashlib.sha256().digest_size
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path | None:
    """Return where compiled models lie; None where none are to be kept, or this system knows no owners of files."""
    named = os.environ.get(CACHE_VARIABLE, "").strip()
    if named == NO_CACHE or not hasattr(os, "geteuid"):
        return None
    if named:
        return Path(named) / "openvino"
    base = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return Path(base) / "edgedet" / "openvino" if os.path.isabs(base) else None  # a user without a home


def cache_key(model: bytes, weights: bytes | None, version: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a compiled model.

    Args:
        model: Content of the .xml or .onnx file.
        weights: Content of the .bin file; None where there is none.
        version: OpenVINO's, with its build.
        settings: Under which it is compiled.
    """
    processor = this_processor()
    parts: list[object] = [hashlib.sha256(model).hexdigest()]
    parts += [None if weights is None else hashlib.sha256(weights).hexdigest()]
    parts += [_FORMAT, version, sorted((name, str(value)) for name, value in settings.items())]
    parts += [processor.cpu, processor.architecture, processor.features]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_entry(folder: Path, key: str) -> bytes | None:
    """Return a compiled model; None where there is none that can be trusted and is whole."""
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if not _is_ours(os.fstat(place), folder):
            return None
        entry = os.open(key + _SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
        with os.fdopen(entry, "rb") as file:
            found = os.fstat(entry)
            if not (stat.S_ISREG(found.st_mode) and _is_ours(found, folder / (key + _SUFFIX))):
                return None
            content = file.read()
    except OSError:
        return None
    finally:
        os.close(place)
    blob = content[_DIGEST:]
    return blob if hashlib.sha256(blob).digest() == content[:_DIGEST] else None


def write_entry(folder: Path, key: str, blob: bytes) -> None:
    """Keep a compiled model, if this user alone can write to the folder; the oldest make room for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_ours(os.lstat(folder), folder):
            return
        write_whole_file(folder / (key + _SUFFIX), hashlib.sha256(blob).digest() + blob, mode=0o600)
        entries = sorted(folder.glob("*" + _SUFFIX), key=lambda path: path.lstat().st_mtime_ns, reverse=True)
        for old in entries[_MOST_ENTRIES:]:
            old.unlink(missing_ok=True)
    except OSError as e:
        _LOGGER.info("%s: the compiled model is not kept: %s", folder, e.strerror or e)


def _is_ours(found: os.stat_result, what: Path) -> bool:
    """Return whether only this user and root could write something."""
    if stat.S_ISLNK(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        _LOGGER.warning("%s: not used for compiled models: it is a link, or belongs to user %d", what, found.st_uid)
        return False
    if found.st_mode & _OTHERS_WRITE:
        _LOGGER.warning("%s: not used for compiled models: others may write to it; chmod go-w", what)
        return False
    return True
