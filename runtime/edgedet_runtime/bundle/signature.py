"""Signed bundles: an Ed25519 signature over the manifest, which in turn holds the SHA-256 of every file.

``edgedet bundle sign`` writes ``manifest.sig`` beside ``manifest.json``. A device whose environment names a public key
in ``EDGEDET_PUBLIC_KEY`` opens nothing but bundles signed with it: `require_trusted` runs before any engine, and before
any model file is parsed, and it also refuses files that the manifest does not list. It guards against files that were
exchanged or damaged on the way; who can write to the bundle while it is being opened, or set the process's environment,
is not kept out.

The signature file is JSON: ``{"algorithm": "ed25519", "key": sha256 of the raw public key, "signature": base64}``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgedet_runtime.bundle.manifest import MANIFEST, read_manifest, verify_bundle
from edgedet_runtime.errors import CheckFailedError, InputError, MissingDependencyError, ModelFileError
from edgedet_runtime.from_json import read_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["KEY_VARIABLE", "SIGNATURE", "make_keys", "require_trusted", "sign_bundle", "verify_signature"]

SIGNATURE = "manifest.sig"
KEY_VARIABLE = "EDGEDET_PUBLIC_KEY"
PLAN = "plan.json"
"""Written on the device by ``edgedet profile --save-plan``; it only chooses among listed files."""

_ALGORITHM = "ed25519"


def make_keys(private_key: Path) -> Path:
    """Make a key pair: a private key that only the owner can read, and a public key beside it.

    Args:
        private_key: File to write (PEM, PKCS 8); the public key gets the suffix ``.pub`` (PEM).

    Returns:
        The path of the public key.

    Raises:
        InputError: One of the files exists or cannot be written.
        MissingDependencyError: cryptography is not installed.
    """
    serialization, ed25519 = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    public_key = private_key.with_suffix(".pub")
    private_text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_text = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for path, text, mode in ((private_key, private_text, 0o600), (public_key, public_text, 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(text)
        except OSError as e:
            raise InputError(f"{path}: expected a free place for a key, got {e.strerror}") from None
    return public_key


def sign_bundle(bundle: Path, private_key: Path) -> Path:
    """Sign a bundle whose files are as its manifest says.

    Args:
        bundle: The folder that ``edgedet export`` wrote.
        private_key: PEM file of an unencrypted Ed25519 key.

    Returns:
        The path of the signature.

    Raises:
        CheckFailedError: Files differ from the manifest; such a bundle is not signed.
        InputError: The key cannot be used, or the signature cannot be written.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest cannot be read.
    """
    problems = _file_problems(bundle)
    if problems:
        raise CheckFailedError(f"{bundle}: not signed: {'; '.join(problems)}: export it again")
    key = _read_private_key(private_key)
    content = (bundle / MANIFEST).read_bytes()
    document = {
        "algorithm": _ALGORITHM,
        "key": _fingerprint(key.public_key()),
        "signature": base64.b64encode(key.sign(content)).decode("ascii"),
    }
    target = bundle / SIGNATURE
    aside = bundle / f"{SIGNATURE}.part"
    try:
        aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        aside.replace(target)
    except OSError as e:
        raise InputError(f"{target}: cannot be written: {e.strerror}") from None
    return target


def verify_signature(bundle: Path, public_key: Path) -> str:
    """Check that a bundle is signed with a key and that its files are those that were signed.

    Args:
        bundle: The folder.
        public_key: PEM file of the Ed25519 public key.

    Returns:
        The key's fingerprint.

    Raises:
        CheckFailedError: It is unsigned, signed with another key, or altered.
        InputError: The key cannot be used.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest or the signature cannot be read.
    """
    key = _read_public_key(public_key)
    from cryptography.exceptions import InvalidSignature

    fingerprint = _fingerprint(key)
    path = bundle / SIGNATURE
    if not (bundle / MANIFEST).is_file():
        raise ModelFileError(f"{bundle}: expected a bundle with {MANIFEST}, there is none")
    if not path.is_file():
        raise CheckFailedError(f"{bundle}: expected a bundle signed with {fingerprint[:16]}…, got an unsigned one")
    try:
        document = read_json(path)
        named, signature = str(document["key"]), base64.b64decode(document["signature"], validate=True)
        algorithm = str(document["algorithm"])
    except (ModelFileError, ValueError, KeyError, TypeError):
        raise ModelFileError(f"{path}: expected what `edgedet bundle sign` writes, got something else") from None
    if algorithm != _ALGORITHM:
        raise CheckFailedError(f"{path}: expected algorithm {_ALGORITHM}, got {algorithm[:40]!r}")
    try:
        key.verify(signature, (bundle / MANIFEST).read_bytes())
    except InvalidSignature:
        what = "the manifest was altered" if named == fingerprint else f"it is signed with {named[:16]}…"
        raise CheckFailedError(f"{bundle}: expected a signature of {fingerprint[:16]}…, but {what}") from None
    problems = _file_problems(bundle)
    if problems:
        raise CheckFailedError(f"{bundle}: expected the files that were signed, got {'; '.join(problems[:3])}")
    return fingerprint


def require_trusted(model: Path) -> None:
    """Refuse a model that the device's key did not sign; do nothing where no key is configured.

    Args:
        model: A bundle folder, or a file of a bundle.

    Raises:
        CheckFailedError: It is unsigned, altered, or a single file that lies in no bundle.
        InputError: ``EDGEDET_PUBLIC_KEY`` names no usable key.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest or the signature cannot be read.
    """
    wish = os.environ.get(KEY_VARIABLE, "").strip()
    if not wish:
        return
    bundle = _bundle_of(model)
    if bundle is None:
        raise CheckFailedError(f"{model}: expected a file of a signed bundle ({KEY_VARIABLE} is set), got a lone file")
    verify_signature(bundle, Path(wish))


def _bundle_of(model: Path) -> Path | None:
    """Return the bundle that a folder is or that lists a file; None where there is none."""
    if model.is_dir():
        return model
    file = model.resolve()
    for folder in file.parents[:2]:
        if (folder / MANIFEST).is_file():
            listed = {entry.path for entry in read_manifest(folder).files}
            return folder if file.relative_to(folder).as_posix() in listed else None
    return None


def _file_problems(bundle: Path) -> list[str]:
    """Return what is wrong with the files: missing, altered, or not in the manifest."""
    listed = {file.path for file in read_manifest(bundle).files} | {MANIFEST, SIGNATURE, PLAN}
    strange = [
        f"{path.relative_to(bundle).as_posix()}: is not in the manifest"
        for path in sorted(bundle.rglob("*"))
        if not path.is_dir() and path.relative_to(bundle).as_posix() not in listed
    ]
    return verify_bundle(bundle) + strange


def _read_private_key(path: Path) -> Ed25519PrivateKey:
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as e:
        raise InputError(f"{path}: expected an unencrypted Ed25519 private key in PEM, got {_reason(e)}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}")
    return cast("Ed25519PrivateKey", key)


def _read_public_key(path: Path) -> Ed25519PublicKey:
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError) as e:
        raise InputError(f"{path}: expected an Ed25519 public key in PEM, got {_reason(e)}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputError(f"{path}: expected an Ed25519 public key, got {type(key).__name__}")
    return cast("Ed25519PublicKey", key)


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "something else"


def _fingerprint(key: Ed25519PublicKey) -> str:
    serialization, _ = _cryptography()
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def _cryptography() -> tuple[Any, Any]:
    """Import what is needed of the cryptography package."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingDependencyError("cryptography", "sign", "checking or making signatures") from None
    return serialization, ed25519
