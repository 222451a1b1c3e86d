"""The first load of a model file for which no key vouches: in a child process, once, and then remembered.

A file that an engine survived is remembered by what decides whether it does: the content of the file and of the weights
beside it, engine and version, the kind of machine, edgedet's version. Each is a file named by the hash of all that in
``survived`` of the device's `state_folder`, so that a later start costs the hash of the model's content, which is
compared with the bundle's manifest anyway, and one look into the folder. Deaths are not remembered: memory or time may
have been short for another reason.

A device that can keep nothing tries again in each process, and says so; ``EDGEDET_STATE=none`` tells it to be silent.
``EDGEDET_TRIAL=never`` or `Detector`'s ``trial="never"`` loads files at once: for those who made the file themselves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from pathlib import Path

from edgedet_runtime.choices import TRIAL_VARIABLE, EngineName
from edgedet_runtime.errors import EngineDeathError, EngineError, MissingDependencyError, ModelFileError
from edgedet_runtime.model_check import Outline
from edgedet_runtime.spec import ModelSpec
from edgedet_runtime.state_folder import STATE_VARIABLE, state_folder
from edgedet_runtime.version import __version__

__all__ = ["require_survived"]

_FOLDER = "survived"
_MOST_KEPT = 512
_LOG = logging.getLogger(__name__)
_survived_here: set[str] = set()  # by this process, which may not be able to keep it elsewhere


def require_survived(
    engine: EngineName, version: str, path: Path, spec: ModelSpec, declared: Outline, *, again: bool = False
) -> None:
    """Load a model file in a child process, unless it is remembered that the engine survived that.

    What the engine refuses in words is not an error here: this process will be refused in the same words.

    Args:
        engine: The engine.
        version: Of the engine.
        path: The model file.
        spec: Its contract.
        declared: What the check of the file found.
        again: Try also where it is remembered.

    Raises:
        EngineDeathError: The engine died of it, hung, took more memory than it may, or no child could be started.
        ModelFileError: The file or its weights cannot be read.
    """
    key = _key(engine, version, path, declared)
    folder = state_folder()
    place = None if folder is None else folder / _FOLDER
    if not again and (key in _survived_here or (place is not None and _is_file(place / key))):
        return
    from edgedet_runtime.engines.trial_load import try_in_child  # what starts processes takes 7 ms to import

    try:
        try_in_child(engine, path, spec)
    except EngineDeathError:
        raise
    except (EngineError, ModelFileError, MissingDependencyError):
        return
    _survived_here.add(key)
    if place is not None:
        _remember(place, key, f"{engine} {version}")


def _key(engine: EngineName, version: str, path: Path, declared: Outline) -> str:
    from edgedet_runtime.bundle.manifest import file_sha256

    try:
        names = (path.name, *declared.files)
        digests = [declared.digests.get(name) or file_sha256(path.parent / name) for name in names]
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from None
    facts = [engine, version, platform.machine(), __version__, path.suffix.lower(), digests, list(declared.files)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above it that may not be entered
        return False


def _remember(place: Path, key: str, which: str) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / key).write_text(f"{which}\n", encoding="utf-8")
        kept = sorted(place.iterdir(), key=lambda p: p.stat().st_mtime)
        for old in kept[: -_MOST_KEPT // 2] if len(kept) > _MOST_KEPT else ():
            old.unlink(missing_ok=True)
    except OSError as e:
        _LOG.warning(
            "%s: that %s survived this unsigned model file cannot be remembered (%s), so each process first tries it in"
            " a child; let %s name a folder that can be written, sign the bundle, or set %s=never",
            place,
            which,
            e.strerror or e,
            STATE_VARIABLE,
            TRIAL_VARIABLE,
        )
