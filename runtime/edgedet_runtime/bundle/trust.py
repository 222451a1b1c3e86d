"""What a device with a public key opens: bundles signed with it that are meant for it, in force, and not older.

`trusted` runs before any engine, and before any model file is parsed. It guards against files that were exchanged or
damaged on the way, against old ones, and against ones that are for other devices; who can set the process's environment
or write to what the device remembers is not kept out.

A board without a battery starts in 1970. Where the clock stands before the time of signing, what is on the device opens
with a warning, and nothing that could have expired is installed, see `Statement.require_in_force`.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgedet_runtime.bundle.keys import KEY_VARIABLE, device_keys
from edgedet_runtime.bundle.manifest import MANIFEST, read_manifest
from edgedet_runtime.bundle.seen_versions import highest_seen, remember_version
from edgedet_runtime.bundle.signature import SignedBundle, verify_signature
from edgedet_runtime.bundle.slot_state import raise_highest, read_state, slots_around
from edgedet_runtime.bundle.statement import Statement
from edgedet_runtime.errors import CheckFailedError

__all__ = ["MODEL_VARIABLE", "check_conditions", "remember", "require_trusted", "trusted"]

MODEL_VARIABLE = "EDGEDET_MODEL"
_SAME_MACHINE = {"amd64": "x86_64", "arm64": "aarch64", "armv7": "armv7l"}


def trusted(model: Path) -> SignedBundle | None:
    """Return the signed bundle that a model is or lies in; None where the device has no key, and everything opens.

    Its files are still to be checked, see `SignedBundle.check_files`.

    Args:
        model: A bundle folder, or a file of a bundle.

    Raises:
        CheckFailedError: It is unsigned, altered, expired, for another device, older than what was seen here, or a
            single file that lies in no bundle.
        InputError: ``EDGEDET_PUBLIC_KEY`` names no usable key.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest, the signature, or what was remembered cannot be read.
    """
    keys = device_keys()
    if keys is None:
        return None
    bundle = _bundle_of(model)
    if bundle is None:
        raise CheckFailedError(f"{model}: expected a file of a signed bundle ({KEY_VARIABLE} is set), got a lone file")
    signed = verify_signature(bundle, keys)
    slots = slots_around(bundle)
    highest = highest_seen(signed.statement.model) if slots is None else read_state(slots).highest
    check_conditions(bundle, signed.statement, highest=highest, new=False)
    return signed


def require_trusted(model: Path) -> SignedBundle | None:
    """Check a model as `trusted` does, and the files of its bundle.

    Raises:
        CheckFailedError: As `trusted` says, or a file is not what was signed.
        InputError: ``EDGEDET_PUBLIC_KEY`` names no usable key.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest, the signature, or what was remembered cannot be read.
    """
    signed = trusted(model)
    if signed is not None:
        signed.check_files()
    return signed


def remember(signed: SignedBundle) -> None:
    """Remember the version of a bundle that was opened: from now on no older one of its model opens.

    In slots, only a confirmed bundle's is remembered; until then there has to be a way back.

    Raises:
        InputError: The state folder cannot be written.
        ModelFileError: What was remembered cannot be read.
    """
    slots = slots_around(signed.folder)
    if slots is None:
        remember_version(signed.statement.model, signed.statement.version)
    else:
        raise_highest(slots, signed.folder.resolve().name, signed.statement.version)


def check_conditions(bundle: Path, statement: Statement, *, highest: int, new: bool) -> None:
    """Check that a bundle is in force, for this device, and not older than what was seen here.

    Args:
        bundle: The folder, for messages.
        statement: What is signed.
        highest: The highest version of its model that was seen here.
        new: It shall be installed; where the clock is not set, a bundle that expires is then refused.

    Raises:
        CheckFailedError: One of this does not hold.
    """
    if statement.version < highest:
        which = f"version {statement.version}" if statement.version else "one without a version"
        raise CheckFailedError(
            f"{bundle}: expected version {highest} or a newer one, which is what this device has seen, got {which};"
            f" to go back to it, sign it again: edgedet bundle sign --version {highest + 1}"
        )
    _check_target(bundle, statement)
    statement.require_in_force(bundle, new=new)


def _check_target(bundle: Path, statement: Statement) -> None:
    here = _machine(platform.machine())
    if statement.architectures and here not in map(_machine, statement.architectures):
        meant = ", ".join(statement.architectures)
        raise CheckFailedError(f"{bundle}: expected a bundle for {here}, got one that is signed for {meant}")
    wanted = os.environ.get(MODEL_VARIABLE, "").strip()
    if wanted and statement.model != wanted:
        got = f"one for {statement.model}" if statement.model else "one that names no model"
        raise CheckFailedError(f"{bundle}: expected a bundle for the model {wanted} ({MODEL_VARIABLE}), got {got}")


def _machine(name: str) -> str:
    return _SAME_MACHINE.get(name.lower(), name.lower())


def _bundle_of(model: Path) -> Path | None:
    """Return the bundle that a folder is or that lists a file; None where there is none."""
    if model.is_dir():
        return model
    file = model.resolve()
    for folder in file.parents:
        if (folder / MANIFEST).is_file():
            listed = {entry.path for entry in read_manifest(folder).files}
            return folder if file.relative_to(folder).as_posix() in listed else None
    return None
