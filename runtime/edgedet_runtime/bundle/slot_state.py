"""Which of a device's two slots is in force: one small file, so that every step is one exchange of a file.

::

    DIR/current.json     which slot is current, whether it is confirmed, which one it would go back to
    DIR/a, DIR/b         a bundle each

A slot is named together with the SHA-256 of the manifest that was installed there. A slot that holds something else, as
after a power cut in the middle of an installation, is nothing to go back to.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgedet_runtime.bundle.manifest import MANIFEST
from edgedet_runtime.errors import InputError, ModelFileError
from edgedet_runtime.from_json import from_json, read_json
from edgedet_runtime.one_writer import locked_folder
from edgedet_runtime.short_file import read_short_bytes
from edgedet_runtime.whole_file import write_whole_file

__all__ = [
    "STATE_FILE",
    "TRIES",
    "Installed",
    "SlotName",
    "SlotState",
    "TakenBack",
    "current_bundle",
    "raise_highest",
    "read_state",
    "slots_around",
    "write_state",
]

STATE_FILE = "current.json"
TRIES = 3
SlotName = Literal["a", "b"]
_FORMAT = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Installed:
    """A bundle in a slot.

    Attributes:
        slot: ``a`` or ``b``.
        manifest_sha256: Of its manifest, hexadecimal.
        version: That is signed; None where the device had no key when it was installed.
        confirmed: A program has said that it works with it.
        starts: How often it was started without having been confirmed.
    """

    slot: SlotName
    manifest_sha256: str
    version: int | None = None
    confirmed: bool = False
    starts: int = 0

    def __str__(self) -> str:
        """Return it as messages name it."""
        which = f"version {self.version}" if self.version else f"manifest {self.manifest_sha256[:12]}…"
        return f"slot {self.slot} ({which})"

    def is_in(self, folder: Path) -> bool:
        """Return whether its slot still holds what was installed there."""
        import hashlib  # loads OpenSSL, which detecting does not need

        try:
            content = read_short_bytes(folder / self.slot / MANIFEST)
        except OSError:
            return False
        return hashlib.sha256(content).hexdigest() == self.manifest_sha256


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The last bundle that was installed and did not stay.

    Attributes:
        manifest_sha256: Of its manifest, hexadecimal.
        version: That is signed.
        why: The reason, in some words.
    """

    manifest_sha256: str
    version: int | None
    why: str


@dataclass(frozen=True, slots=True)
class SlotState:
    """What ``current.json`` says.

    Attributes:
        current: What is in force; None before anything was installed.
        previous: What it goes back to; None where there is nothing.
        highest: The highest signed version that was confirmed here; no older one is taken.
        model: The model that is signed; no other one is taken. None: not said.
        tries: Starts that an unconfirmed bundle has.
        taken_back: The last one that did not stay.
        edgedet_slots: Version of this format.
    """

    current: Installed | None = None
    previous: Installed | None = None
    highest: int = 0
    model: str | None = None
    tries: int = TRIES
    taken_back: TakenBack | None = None
    edgedet_slots: int = _FORMAT

    def with_installed(self, new: Installed, *, model: str | None, tries: int) -> SlotState:
        """Return the state after an installation: the new one is current and has to be confirmed."""
        return replace(self, current=new, previous=self.current, model=model or self.model, tries=tries)

    def with_start(self) -> SlotState:
        """Return the state after a start of an unconfirmed bundle."""
        return replace(self, current=replace(self._current, starts=self._current.starts + 1))

    def with_confirmation(self) -> SlotState:
        """Return the state after the current bundle was confirmed."""
        current = replace(self._current, confirmed=True, starts=0)
        return replace(self, current=current, highest=max(self.highest, current.version or 0))

    def gone_back(self, why: str) -> SlotState:
        """Return the state in which the previous bundle is current again.

        One that had been confirmed can be gone back to in turn.
        """
        left = self._current
        back = left if left.confirmed else None
        return replace(
            self,
            current=self.previous,
            previous=back,
            taken_back=TakenBack(left.manifest_sha256, left.version, why),
        )

    @property
    def _current(self) -> Installed:
        if self.current is None:
            raise InputError("expected an installed bundle, got empty slots: edgedet bundle install DIR BUNDLE")
        return self.current


def read_state(folder: Path) -> SlotState:
    """Read which slot is in force.

    Raises:
        InputError: The folder has no slots.
        ModelFileError: Its file cannot be read.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise InputError(f"{folder}: expected a folder with slots, got none: edgedet bundle install {folder} BUNDLE")
    try:
        data: Any = read_json(path)
        state = from_json(SlotState, data, at="slots")
    except ValueError as e:
        raise ModelFileError(
            f"{path}: expected what `edgedet bundle install` writes, got something else: {e}"
        ) from None
    if state.edgedet_slots != _FORMAT or "edgedet_slots" not in data:
        raise ModelFileError(f"{path}: expected slots of format {_FORMAT}, got another one: update edgedet")
    return state


def write_state(folder: Path, state: SlotState) -> None:
    """Put a state in force, in one step.

    Raises:
        OSError: It cannot be written; the one before stays.
    """
    write_whole_file(folder / STATE_FILE, json.dumps(asdict(state), indent=1) + "\n")


def current_bundle(model: Path) -> Path:
    """Return the bundle in the current slot of a folder with slots; any other path as it is.

    Nothing is counted: this is for looking at it, not for starting a program.

    Raises:
        InputError: Nothing is installed there.
        ModelFileError: The slots' file cannot be read.
    """
    if not (model / STATE_FILE).is_file():
        return model
    current = read_state(model).current
    if current is None:
        raise InputError(
            f"{model}: expected an installed bundle, got empty slots: edgedet bundle install {model} BUNDLE"
        )
    return model / current.slot


def slots_around(bundle: Path) -> Path | None:
    """Return the folder with slots in which a bundle lies; None where it lies elsewhere."""
    folder = bundle.resolve().parent
    return folder if (folder / STATE_FILE).is_file() else None


def raise_highest(folder: Path, slot: str, version: int) -> None:
    """Remember the version of a confirmed bundle that was opened, which `confirm` did not know without a key.

    Raises:
        ModelFileError: The slots' file cannot be read.
    """
    if not _shall_rise(read_state(folder), slot, version):
        return
    try:
        with locked_folder(folder, wait=True):
            state = read_state(folder)
            if _shall_rise(state, slot, version):
                write_state(folder, replace(state, highest=version))
    except OSError as e:
        _LOG.warning("%s: version %d cannot be remembered (%s)", folder, version, e.strerror or e)


def _shall_rise(state: SlotState, slot: str, version: int) -> bool:
    current = state.current
    return current is not None and current.confirmed and current.slot == slot and version > state.highest
