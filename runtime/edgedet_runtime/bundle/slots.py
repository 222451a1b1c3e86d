"""Updates with a way back: two slots, a switch only to what is fit, and back where the program does not confirm.

`install` copies a bundle into the slot that is not in force, checks the copy (signature, version, target, expiry; then
`doctor`, golden vectors and all) and makes it current. From then on each start of a program counts (`start`, which
``Detector(DIR)`` calls); the program says that all is well with `confirm`. After three starts without it, the next one
gets the bundle from before. What is in force is one small file that is exchanged in one step, see `slot_state`: a power
cut leaves the old or the new.

A version counts as seen when it is confirmed. Until then going back is possible, afterwards an older version is refused
where the device has a public key.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from edgedet_runtime.bundle.keys import device_keys
from edgedet_runtime.bundle.manifest import MANIFEST, read_manifest, verify_bundle
from edgedet_runtime.bundle.plain_files import copy_plain_file
from edgedet_runtime.bundle.plan import PLAN_FILE
from edgedet_runtime.bundle.signature import SIGNATURE, SignedBundle, verify_signature
from edgedet_runtime.bundle.slot_state import (
    STATE_FILE,
    TRIES,
    Installed,
    SlotName,
    SlotState,
    read_state,
    write_state,
)
from edgedet_runtime.bundle.trust import check_conditions
from edgedet_runtime.choices import EngineName
from edgedet_runtime.errors import ArgumentError, CheckFailedError, InputError, ModelFileError
from edgedet_runtime.one_writer import locked_folder
from edgedet_runtime.short_file import read_short_bytes
from edgedet_runtime.whole_folder import whole_folder

__all__ = ["Started", "confirm", "install", "rollback", "start"]

_LOG = logging.getLogger(__name__)
_BESIDES = {MANIFEST: 1 << 26, SIGNATURE: 1 << 20, PLAN_FILE: 1 << 20}
"""Files that no manifest lists, and the bytes that they may have."""
_STARTED: set[tuple[Path, Installed]] = set()
"""What this process has counted: it is one start, however many detectors it makes."""


@dataclass(frozen=True, slots=True)
class Started:
    """A bundle that a program was started with.

    Attributes:
        folder: The slots.
        installed: What was started.
    """

    folder: Path
    installed: Installed

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return self.folder / self.installed.slot


def install(
    folder: Path, bundle: Path, *, engine: EngineName | None = None, threads: int | None = None, tries: int = TRIES
) -> Installed:
    """Install a bundle into the slot that is not in force, and switch to it if it is fit.

    A bundle that waits for confirmation is replaced: the one before it is in force meanwhile.

    Args:
        folder: The slots; made if there is nothing.
        bundle: The folder that ``edgedet export`` wrote.
        engine: Only this engine has to be fit; None: all that are installed.
        threads: Threads of the engines; None takes what is available.
        tries: Starts that it has to be confirmed in.

    Raises:
        CheckFailedError: It is not signed as this device wants it, damaged, older than what was confirmed here, for
            another device or model, expired, or doctor says that it is unfit. The slots are as before.
        InputError: A folder cannot be used, or another process is installing.
        ModelFileError: The manifest, the signature or the slots' file cannot be read.
    """
    from edgedet_runtime.doctor import examine

    if tries < 1:
        raise ArgumentError("tries", f"expected a positive number, got {tries}")
    try:
        before = _ready(folder)
        slot: SlotName = "b" if before.current is not None and before.current.slot == "a" else "a"
        with whole_folder(folder / slot) as copy:
            signed = _copy(bundle, copy, before)
            report = examine(copy, engine=engine, threads=threads)
            if report.failures:
                raise CheckFailedError(f"{bundle}: not installed, {report.verdict}")
            digest = hashlib.sha256(read_short_bytes(copy / MANIFEST)).hexdigest()
        new = Installed(slot, digest, None if signed is None else signed.statement.version)
        with locked_folder(folder, wait=True):
            state = read_state(folder)
            if state.current != before.current:
                raise InputError(f"{folder}: the slots were changed by another process: install {bundle} again")
            model = None if signed is None else signed.statement.model
            write_state(folder, state.with_installed(new, model=model, tries=tries))
    except OSError as e:
        raise InputError(f"{folder}: cannot install {bundle}: {e.strerror or e}; what was in force still is") from None
    return new


def start(folder: Path) -> Started | None:
    """Return the bundle that a program shall start with, and count the start until it is confirmed.

    A process counts once. Where counting is impossible, as on a full disk, an unconfirmed bundle is not started if
    there is one to go back to.

    Args:
        folder: The slots.

    Returns:
        What to start; None where `folder` has no slots.

    Raises:
        InputError: Nothing is installed.
        ModelFileError: The slots' file cannot be read.
    """
    if not (folder / STATE_FILE).is_file():
        return None
    folder = folder.resolve()
    state = read_state(folder)
    current = _current(folder, state)
    if not current.confirmed:
        try:
            with locked_folder(folder, wait=True):  # of two threads too, one counts
                state = _counted_once(folder)
        except OSError as e:
            state = _uncounted(folder, state, e)
        current = _current(folder, state)
    return Started(folder, current)


def confirm(folder: Path, *, started: Installed | None = None) -> Installed:
    """Say that the current bundle works: it stays, and no older version is taken any more.

    Args:
        folder: The slots.
        started: What was started; None: whatever is current.

    Raises:
        CheckFailedError: What was started is not current any more.
        InputError: The folder has no slots, or they cannot be written.
        ModelFileError: The slots' file cannot be read.
    """
    read_state(folder)
    try:
        with locked_folder(folder, wait=True):
            state = read_state(folder)
            current = _current(folder, state)
            if started is not None and (started.slot, started.manifest_sha256) != (
                current.slot,
                current.manifest_sha256,
            ):
                raise CheckFailedError(
                    f"{folder}: expected to confirm what was started, {started}, but {current} is current by now:"
                    " start the program again"
                )
            if current.confirmed:
                return current
            state = state.with_confirmation()
            write_state(folder, state)
    except OSError as e:
        raise InputError(f"{folder}: cannot confirm: {e.strerror or e}") from None
    return _current(folder, state)


def rollback(folder: Path) -> Installed:
    """Go back to the bundle from before.

    Raises:
        CheckFailedError: There is none, or it is older than what was confirmed and the device has a public key.
        InputError: The folder has no slots, or they cannot be written.
        ModelFileError: The slots' file cannot be read.
    """
    read_state(folder)
    with_key = device_keys() is not None
    try:
        with locked_folder(folder, wait=True):
            state = read_state(folder)
            _current(folder, state)
            previous = state.previous
            if previous is None or not previous.is_in(folder):
                raise CheckFailedError(f"{folder}: expected a bundle to go back to, got none: install the one you want")
            if with_key and (previous.version or 0) < state.highest:
                raise CheckFailedError(
                    f"{folder}: expected version {state.highest} or a newer one, which was confirmed here, got"
                    f" {previous}; to go back to it, sign it again: edgedet bundle sign --version {state.highest + 1}"
                )
            state = state.gone_back("rolled back")
            write_state(folder, state)
    except OSError as e:
        raise InputError(f"{folder}: cannot roll back: {e.strerror or e}") from None
    return _current(folder, state)


def _ready(folder: Path) -> SlotState:
    """Make the slots if there is nothing, go back from what waits for confirmation; return what is in force."""
    if not (folder / STATE_FILE).is_file():
        if folder.exists() and (not folder.is_dir() or any(p.name[0] != "." for p in folder.iterdir())):
            raise InputError(f"{folder}: expected slots or a free place, got something else; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder, wait=True):
        if not (folder / STATE_FILE).is_file():
            write_state(folder, SlotState())
        state = read_state(folder)
        current, previous = state.current, state.previous
        if current is not None and not current.confirmed and previous is not None and previous.is_in(folder):
            state = state.gone_back("replaced before it was confirmed")
            write_state(folder, state)
    return state


def _copy(bundle: Path, copy: Path, state: SlotState) -> SignedBundle | None:
    """Copy a bundle and check the copy; where the device has keys, check before that the bundle may be installed."""
    keys = device_keys()
    if keys is not None:
        _check_statement(verify_signature(bundle, keys), state)
    limits = {file.path: file.bytes for file in read_manifest(bundle).files}
    for name, limit in (limits | _BESIDES).items():
        if name in limits or (bundle / name).exists():
            try:
                copy_plain_file(bundle, name, copy / name, limit=limit)
            except ModelFileError as e:
                raise CheckFailedError(f"{bundle}: not what was exported: {e}: copy it again") from None
    if keys is None:
        problems = verify_bundle(copy)
        if problems:
            raise CheckFailedError(f"{bundle}: not what was exported: {'; '.join(problems[:3])}: copy it again")
        return None
    signed = verify_signature(copy, keys)
    _check_statement(signed, state)
    signed.check_files()
    return signed


def _check_statement(signed: SignedBundle, state: SlotState) -> None:
    statement = signed.statement
    check_conditions(signed.folder, statement, highest=state.highest, new=True)
    if state.model is not None and statement.model != state.model:
        got = f"one for {statement.model}" if statement.model else "one that names no model"
        raise CheckFailedError(f"{signed.folder}: expected a bundle for {state.model}, as in these slots, got {got}")


def _counted_once(folder: Path) -> SlotState:
    """Count this process's start of what waits for confirmation, if that was not done; return what is in force."""
    before = read_state(folder)
    if (folder, replace(_current(folder, before), starts=0)) in _STARTED:
        return before
    state = _counted(folder, before)
    if state != before:
        write_state(folder, state)
    _STARTED.add((folder, replace(_current(folder, state), starts=0)))
    return state


def _counted(folder: Path, state: SlotState) -> SlotState:
    """Return the state after one more start."""
    current, previous = _current(folder, state), state.previous
    if current.confirmed:
        return state
    if current.starts < state.tries:
        return state.with_start()
    if previous is None or not previous.is_in(folder):
        _LOG.warning("%s: %s was not confirmed in %d starts, and there is none before it", folder, current, state.tries)
        return state
    _LOG.warning("%s: %s was not confirmed in %d starts: back to %s", folder, current, state.tries, previous)
    return state.gone_back(f"not confirmed in {state.tries} starts")


def _uncounted(folder: Path, state: SlotState, error: OSError) -> SlotState:
    """Return what to start where starts cannot be counted."""
    previous = state.previous
    back = previous is not None and previous.is_in(folder)
    _LOG.warning(
        "%s: starts of %s cannot be counted (%s): %s",
        *(folder, state.current, error.strerror or error),
        f"{previous} is started" if back else "it is started, since there is none before it",
    )
    return state.gone_back("starts cannot be counted") if back else state


def _current(folder: Path, state: SlotState) -> Installed:
    if state.current is None:
        raise InputError(f"{folder}: expected an installed bundle, got empty slots: edgedet bundle install DIR BUNDLE")
    return state.current
