"""Signed bundles: Ed25519 signatures over a statement about the manifest, which in turn holds every file's SHA-256.

``edgedet bundle sign`` writes ``manifest.sig`` beside ``manifest.json``: a DSSE envelope, see `statement`::

    {"payloadType": "application/vnd.edgedet.bundle+json", "payload": base64,
     "signatures": [{"keyid": sha256 of the raw public key, "sig": base64}, …]}

Signatures that edgedet wrote before there were statements, over the manifest itself, still verify; they count as
version 0, for all devices and for ever.

What is verified is what was read: the manifest is parsed from the bytes whose hash was signed, and whoever loads a file
gets the bytes that `SignedBundle.check_files` hashed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgedet_runtime.bundle.keys import PublicKey, fingerprint, read_private_key
from edgedet_runtime.bundle.manifest import MANIFEST, Manifest, parse_manifest
from edgedet_runtime.bundle.plain_files import read_plain_file, sha256_of_plain_file, strange_entries
from edgedet_runtime.bundle.plan import PLAN_FILE
from edgedet_runtime.bundle.statement import PAYLOAD_TYPE, Statement, parse_time, signed_bytes
from edgedet_runtime.errors import ArgumentError, CheckFailedError, InputError, ModelFileError
from edgedet_runtime.from_json import parse_json
from edgedet_runtime.whole_file import write_whole_file

__all__ = ["SIGNATURE", "SignedBundle", "sign_bundle", "verify_signature"]

SIGNATURE = "manifest.sig"

_OLD_ALGORITHM = "ed25519"
_SIGNATURE_BYTES = 1 << 20
_MANIFEST_BYTES = 1 << 26
_BESIDES = (MANIFEST, SIGNATURE, PLAN_FILE)
"""Files that no manifest lists; the plan is written on the device, and only chooses among listed files."""


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A bundle whose statement and manifest are as they were signed; of its files `check_files` says so.

    Attributes:
        folder: The bundle.
        manifest: What was signed.
        statement: What the signature says about it.
        key: The key that signed it.
    """

    folder: Path
    manifest: Manifest
    statement: Statement
    key: PublicKey

    def check_files(self, wanted: Collection[str] = ()) -> dict[str, bytes]:
        """Check that the files are those that were signed, and that there are no others.

        Args:
            wanted: Paths of listed files whose content is returned, as it was read once and checked.

        Returns:
            The content of each of the wanted files.

        Raises:
            CheckFailedError: Files are altered, missing, too many, or reached through links.
            ModelFileError: A file cannot be read.
        """
        problems, contents = _read_files(self.folder, self.manifest, wanted)
        if problems:
            raise CheckFailedError(f"{self.folder}: expected the files that were signed, got {'; '.join(problems[:3])}")
        return contents


def sign_bundle(
    bundle: Path,
    *private_keys: Path,
    version: int = 0,
    expires: str | None = None,
    architectures: Sequence[str] = (),
    model: str | None = None,
) -> Path:
    """Sign a bundle whose files are as its manifest says.

    Args:
        bundle: The folder that ``edgedet export`` wrote.
        private_keys: PEM files of unencrypted Ed25519 keys; several, so that devices with any of them take the bundle.
        version: Larger than that of every bundle of this model that devices have seen.
        expires: A day or a time, UTC, from which on it is refused.
        architectures: Machines that it is for, as ``uname -m`` says; empty: all.
        model: The model that it is an update of.

    Returns:
        The path of the signature.

    Raises:
        ArgumentError: A condition cannot be meant.
        CheckFailedError: Files differ from the manifest; such a bundle is not signed.
        InputError: A key cannot be used, or the signature cannot be written.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest cannot be read.
    """
    if not private_keys:
        raise ArgumentError("key", "expected at least one private key, got none")
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    until = None if expires is None else parse_time(expires).strftime("%Y-%m-%dT%H:%M:%SZ")
    if until is not None and until <= now:
        raise ArgumentError("expires", f"expected a time to come, got {expires}, and it is {now}")
    content = _manifest_bytes(bundle)
    problems, _ = _read_files(bundle, parse_manifest(content, bundle / MANIFEST), ())
    if problems:
        raise CheckFailedError(f"{bundle}: not signed: {'; '.join(problems)}: export it again")
    digest = hashlib.sha256(content).hexdigest()
    payload = Statement(digest, version, now, until, tuple(architectures), model).to_bytes()
    signatures = []
    for path in private_keys:
        key = read_private_key(path)
        signatures.append({"keyid": fingerprint(key.public_key()), "sig": _base64(key.sign(signed_bytes(payload)))})
    document = {"payloadType": PAYLOAD_TYPE, "payload": _base64(payload), "signatures": signatures}
    target = bundle / SIGNATURE
    try:
        write_whole_file(target, json.dumps(document, indent=1) + "\n")
    except OSError as e:
        raise InputError(f"{target}: cannot be written: {e.strerror}") from None
    return target


def verify_signature(bundle: Path, keys: Sequence[PublicKey]) -> SignedBundle:
    """Check that a bundle's manifest is signed with one of the keys.

    Args:
        bundle: The folder.
        keys: What is trusted.

    Returns:
        What was signed; its files are still to be checked.

    Raises:
        CheckFailedError: It is unsigned, signed with other keys, or altered.
        MissingDependencyError: cryptography is not installed.
        ModelFileError: The manifest or the signature cannot be read.
    """
    if not (bundle / MANIFEST).is_file():
        raise ModelFileError(f"{bundle}: expected a bundle with {MANIFEST}, there is none")
    trusted = ", ".join(str(key) for key in keys[:3]) + (", …" if len(keys) > 3 else "")
    if not (bundle / SIGNATURE).exists():
        raise CheckFailedError(f"{bundle}: expected a bundle signed with {trusted}, got an unsigned one")
    manifest = _manifest_bytes(bundle)
    digest = hashlib.sha256(manifest).hexdigest()
    envelope = _read_envelope(bundle / SIGNATURE, read_plain_file(bundle, SIGNATURE, limit=_SIGNATURE_BYTES))
    message = manifest if envelope.payload is None else signed_bytes(envelope.payload)
    key = next((k for k in keys for _, signature in envelope.signatures if _signed(k, signature, message)), None)
    if key is None:
        names = [name for name, _ in envelope.signatures]
        ours = any(k.fingerprint in names for k in keys)
        what = "it was altered" if ours else f"it is signed with {names[0][:16]}…"
        raise CheckFailedError(f"{bundle}: expected a signature of {trusted}, but {what}")
    statement = Statement(digest) if envelope.payload is None else _read_statement(bundle, envelope.payload)
    if statement.manifest_sha256 != digest:
        raise CheckFailedError(f"{bundle}: expected the manifest that was signed, but it was altered")
    return SignedBundle(bundle, parse_manifest(manifest, bundle / MANIFEST), statement, key)


@dataclass(frozen=True, slots=True)
class _Envelope:
    """A signature file: the payload, None in the old form, and signatures by the name of their key."""

    payload: bytes | None
    signatures: tuple[tuple[str, bytes], ...]


def _read_envelope(path: Path, content: bytes) -> _Envelope:
    expected = f"{path}: expected what `edgedet bundle sign` writes"
    try:
        data = parse_json(content.decode())
        old = isinstance(data, dict) and "payload" not in data
        kind, wanted = (data["algorithm"], _OLD_ALGORITHM) if old else (data["payloadType"], PAYLOAD_TYPE)
        if kind != wanted:
            raise CheckFailedError(f"{path}: expected the algorithm {wanted}, got {str(kind)[:60]!r}: update edgedet")
        entries = [(data["key"], data["signature"])] if old else [(s["keyid"], s["sig"]) for s in data["signatures"]]
        signatures = tuple((_text(name), _from_base64(signature)) for name, signature in entries)
        payload = None if old else _from_base64(data["payload"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelFileError(f"{expected}, got something else; sign the bundle again") from None
    if not signatures:
        raise ModelFileError(f"{expected}, got no signature in it; sign the bundle again")
    return _Envelope(payload, signatures)


def _read_statement(bundle: Path, payload: bytes) -> Statement:
    try:
        return Statement.from_bytes(payload)
    except (ValueError, RecursionError, ArgumentError) as e:
        reason = "it is nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise ModelFileError(f"{bundle / SIGNATURE}: its statement is signed, but cannot be read: {reason}") from None


def _read_files(folder: Path, manifest: Manifest, wanted: Collection[str]) -> tuple[list[str], dict[str, bytes]]:
    """Read every file of a bundle once; return what is wrong, and the content of the wanted files."""
    problems = strange_entries(folder, {file.path for file in manifest.files} | {*_BESIDES})
    contents = {}
    for file in manifest.files if not problems else ():
        try:
            if file.path in wanted:
                contents[file.path] = content = read_plain_file(folder, file.path, limit=file.bytes)
                size, digest = len(content), hashlib.sha256(content).hexdigest()
            else:
                size, digest = sha256_of_plain_file(folder, file.path, limit=file.bytes)
        except ModelFileError as e:
            problems.append(str(e))
            continue
        if size != file.bytes:
            problems.append(f"{file.path}: expected {file.bytes} bytes, got {size}")
        elif digest != file.sha256:
            problems.append(f"{file.path}: expected sha256 {file.sha256[:12]}…, got {digest[:12]}…")
    return problems, contents


def _signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _manifest_bytes(bundle: Path) -> bytes:
    return read_plain_file(bundle, MANIFEST, limit=_MANIFEST_BYTES)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _from_base64(text: Any) -> bytes:
    return base64.b64decode(_text(text), validate=True)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
