"""The highest version of each model that this device has seen, so that an older signed bundle is not taken again.

It is kept outside of the bundles, in ``versions.json`` of the folder that ``EDGEDET_STATE`` names; by default in
``$XDG_STATE_HOME/edgedet``, which is ``~/.local/state/edgedet``. Where the variable is set, a folder that cannot be
written is an error; where it is not, a warning, since a device whose file system is read-only has to detect as well.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import InputError, ModelFileError
from edgedet_runtime.from_json import from_json, read_json
from edgedet_runtime.one_writer import locked_folder
from edgedet_runtime.whole_file import write_whole_file

__all__ = ["STATE_VARIABLE", "highest_seen", "remember_version", "state_folder"]

STATE_VARIABLE = "EDGEDET_STATE"
_FILE = "versions.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What ``versions.json`` says: the highest version by model; the name of a model that was not said is empty."""

    versions: dict[str, int]


def state_folder() -> Path:
    """Return the folder in which this device keeps what it has seen."""
    named = os.environ.get(STATE_VARIABLE, "").strip()
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME", "").strip() or os.path.expanduser("~/.local/state")
    return Path(base if os.path.isabs(base) else "/.local/state") / "edgedet"  # a user without a home has none


def highest_seen(model: str | None) -> int:
    """Return the highest version of a model that was remembered; 0 where none was.

    Raises:
        ModelFileError: What was remembered cannot be read.
    """
    return _read(state_folder() / _FILE).get(model or "", 0)


def remember_version(model: str | None, version: int) -> None:
    """Remember a version of a model, if it is the highest one seen.

    Raises:
        InputError: ``EDGEDET_STATE`` names a folder that cannot be written.
        ModelFileError: What was remembered cannot be read.
    """
    if version <= highest_seen(model):
        return
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder, wait=True):
            versions = _read(folder / _FILE)
            versions[model or ""] = max(version, versions.get(model or "", 0))
            write_whole_file(folder / _FILE, json.dumps({"versions": versions}, indent=1) + "\n")
    except OSError as e:
        why = f"{folder}: version {version} cannot be remembered ({e.strerror})"
        if os.environ.get(STATE_VARIABLE, "").strip():
            raise InputError(f"{why}; {STATE_VARIABLE} must name a folder that can be written and lasts") from None
        _LOG.warning("%s, so that an older one would be taken again; let %s name a folder", why, STATE_VARIABLE)


def _read(path: Path) -> dict[str, int]:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError:
        pass  # something is there, and reading it will say why it cannot be read
    try:
        return dict(from_json(_Seen, read_json(path)).versions)
    except (ValueError, ModelFileError) as e:
        raise ModelFileError(
            f"{path}: expected the versions that this device has seen, got something else ({e}); no bundle is opened"
            " until it is mended, or removed by hand"
        ) from None
