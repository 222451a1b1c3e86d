"""Ed25519 keys in PEM: pairs are made on the build host, and a device names the public ones that it trusts.

``EDGEDET_PUBLIC_KEY`` names them: a file that holds one key or several, a folder whose ``*.pub`` files are taken, or
a list of both, separated as in ``PATH`` (``:``). Several keys are how one is replaced by the next: the device trusts
both for a while. Where the variable is not set, nothing is checked; where it is set and names no key, nothing opens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgedet_runtime.errors import ArgumentError, InputError, MissingDependencyError
from edgedet_runtime.short_file import read_short_bytes
from edgedet_runtime.whole_file import write_whole_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "KEY_VARIABLE",
    "PublicKey",
    "device_keys",
    "fingerprint",
    "make_keys",
    "public_keys_pem",
    "read_private_key",
    "read_public_keys",
]

KEY_VARIABLE = "EDGEDET_PUBLIC_KEY"
_PUBLIC_SUFFIX = ".pub"
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        fingerprint: SHA-256 of the raw key, hexadecimal.
        file: Where it was read.
        key: The key itself.
    """

    fingerprint: str
    file: Path
    key: Ed25519PublicKey

    def __str__(self) -> str:
        """Return the key as messages name it."""
        return f"{self.fingerprint[:16]}… ({self.file})"


def make_keys(private_key: Path) -> Path:
    """Make a key pair: a private key that only the owner can read, and a public key beside it.

    Args:
        private_key: File to write (PEM, PKCS 8), such as ``owner.pem``; the public key gets the suffix ``.pub`` (PEM).

    Returns:
        The path of the public key.

    Raises:
        ArgumentError: The name is one that a public key has.
        InputError: One of the files exists or cannot be written; neither is left then.
        MissingDependencyError: cryptography is not installed.
    """
    if private_key.suffix.lower() == _PUBLIC_SUFFIX:
        raise ArgumentError(
            "key",
            f"expected a name for the private key, such as {private_key.with_suffix('.pem')}, got {private_key}:"
            f" {_PUBLIC_SUFFIX} is how the public key beside it is called",
        )
    serialization, ed25519 = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    public_key = private_key.with_suffix(_PUBLIC_SUFFIX)
    private_text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair = ((private_key, private_text, 0o600), (public_key, _pem(key.public_key()), 0o644))
    taken: list[Path] = []
    try:
        for path, _, _ in pair:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            taken.append(path)
        for path, text, mode in pair:
            write_whole_file(path, text, mode=mode)
    except OSError as e:
        for path in taken:
            path.unlink(missing_ok=True)
        raise InputError(
            f"{e.filename or private_key}: expected a free place for a key, got {e.strerror}; no key was made"
        ) from None
    return public_key


def device_keys() -> tuple[PublicKey, ...] | None:
    """Return the keys that this device trusts; None where ``EDGEDET_PUBLIC_KEY`` is not set.

    Raises:
        InputError: The variable is set and names no usable key.
        MissingDependencyError: cryptography is not installed.
    """
    value = os.environ.get(KEY_VARIABLE)
    if value is None:
        return None
    places = [Path(place) for place in value.split(os.pathsep) if place.strip()]
    if not places:
        raise InputError(
            f"{KEY_VARIABLE}: expected a public key's file, a folder of them, or several separated by"
            f" {os.pathsep!r}, got an empty value, so that nothing is trusted; name a key, or unset the variable to"
            " open unsigned bundles"
        )
    try:
        return read_public_keys(places)
    except InputError as e:
        raise InputError(f"{KEY_VARIABLE}: {e}") from None


def read_public_keys(places: Sequence[Path]) -> tuple[PublicKey, ...]:
    """Read public keys.

    Args:
        places: Files in PEM with one key or several, and folders whose ``*.pub`` files are taken.

    Returns:
        Each key once.

    Raises:
        InputError: A place holds no key, or something else.
        MissingDependencyError: cryptography is not installed.
    """
    keys: dict[str, PublicKey] = {}
    for place in places:
        files = sorted(place.glob(f"*{_PUBLIC_SUFFIX}")) if place.is_dir() else [place]
        if not files:
            raise InputError(f"{place}: expected a folder with public keys, *{_PUBLIC_SUFFIX}, got none in it")
        for file in files:
            for key in _public_keys_of(file):
                keys.setdefault(key.fingerprint, key)
    return tuple(keys.values())


def public_keys_pem(keys: Sequence[PublicKey]) -> bytes:
    """Return keys as one file that `read_public_keys` reads."""
    return b"".join(_pem(key.key) for key in keys)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs.

    Raises:
        InputError: It is no unencrypted Ed25519 key in PEM.
        MissingDependencyError: cryptography is not installed.
    """
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_private_key(read_short_bytes(path), password=None)
    except Exception as e:  # what the package raises has no common root: UnsupportedAlgorithm, ValueError, TypeError
        raise InputError(f"{path}: expected an unencrypted Ed25519 private key in PEM, got {_reason(e)}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}")
    return cast("Ed25519PrivateKey", key)


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a raw public key, hexadecimal."""
    import hashlib

    serialization, _ = _cryptography()
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def _public_keys_of(file: Path) -> list[PublicKey]:
    serialization, ed25519 = _cryptography()
    try:
        blocks = [match.group(0) for match in _PEM_BLOCK.finditer(read_short_bytes(file))]
        found = [serialization.load_pem_public_key(block) for block in blocks]
    except Exception as e:  # as above
        raise InputError(f"{file}: expected Ed25519 public keys in PEM, got {_reason(e)}") from None
    if not found:
        raise InputError(f"{file}: expected Ed25519 public keys in PEM, got something else")
    other = next((key for key in found if not isinstance(key, ed25519.Ed25519PublicKey)), None)
    if other is not None:
        raise InputError(f"{file}: expected an Ed25519 public key, got {type(other).__name__}")
    return [PublicKey(fingerprint(key), file, key) for key in found]


def _pem(key: Ed25519PublicKey) -> bytes:
    serialization, _ = _cryptography()
    text: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return text


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "something else"


def _cryptography() -> tuple[Any, Any]:
    """Import what is needed of the cryptography package."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingDependencyError("cryptography", "sign", "checking or making signatures") from None
    return serialization, ed25519
