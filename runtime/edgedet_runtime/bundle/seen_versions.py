"""The highest version of each model that this device has seen, so that an older signed bundle is not taken again.

It is kept outside of the bundles, in ``versions.json`` of the device's `state_folder`. A device that has a key and
cannot keep a version opens no bundle that has one: a restart would forget it, and an old bundle would be taken again.
``EDGEDET_STATE=none`` says that this is meant, such as where the file system is read-only and comes whole, with the
bundle, in an image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import InputError, ModelFileError
from edgedet_runtime.from_json import from_json, read_json
from edgedet_runtime.one_writer import locked_folder
from edgedet_runtime.state_folder import NO_STATE, STATE_VARIABLE, state_folder
from edgedet_runtime.whole_file import write_whole_file

__all__ = ["highest_seen", "remember_version"]

_FILE = "versions.json"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What ``versions.json`` says: the highest version by model; the name of a model that was not said is empty."""

    versions: dict[str, int]


def highest_seen(model: str | None) -> int:
    """Return the highest version of a model that was remembered; 0 where none was.

    Raises:
        ModelFileError: What was remembered cannot be read.
    """
    folder = state_folder()
    return 0 if folder is None else _read(folder / _FILE).get(model or "", 0)


def remember_version(model: str | None, version: int) -> None:
    """Remember a version of a model, if it is the highest one seen.

    Does nothing where the device was told to remember nothing.

    Raises:
        InputError: The state folder cannot be written.
        ModelFileError: What was remembered cannot be read.
    """
    folder = state_folder()
    if folder is None or version <= highest_seen(model):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder, wait=True):
            versions = _read(folder / _FILE)
            versions[model or ""] = max(version, versions.get(model or "", 0))
            write_whole_file(folder / _FILE, json.dumps({"versions": versions}, indent=1) + "\n")
    except OSError as e:
        raise InputError(
            f"{folder}: version {version} cannot be remembered ({e.strerror}), so that an older bundle would be taken"
            f" again; let {STATE_VARIABLE} name a folder that can be written and lasts, or set"
            f" {STATE_VARIABLE}={NO_STATE} if this device need not guard against older bundles"
        ) from None


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
