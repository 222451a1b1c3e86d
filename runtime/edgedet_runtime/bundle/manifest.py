"""The manifest of a bundle, and the check that its files are those that were written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import ModelFileError

__all__ = ["MANIFEST", "BundleFile", "Manifest", "read_manifest", "verify_bundle"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle, as its manifest lists it.

    Attributes:
        path: Relative to the bundle, with ``/``.
        sha256: Hexadecimal digest of its content.
        size: Bytes.
        precision: ``fp32`` or ``int8`` for a model; empty for anything else.
        engines: Engines that the file was made for; empty if the manifest does not say.
    """

    path: str
    sha256: str
    size: int
    precision: str = ""
    engines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the runtime needs of ``manifest.json``.

    Attributes:
        files: All files of the bundle but the manifest.
        recommended: Engine → ``fp32`` or ``int8``, what export measured to be the better choice.
    """

    files: tuple[BundleFile, ...]
    recommended: dict[str, str]


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises:
        ModelFileError: There is none, or it is not what ``edgedet export`` writes.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelFileError(
            f"{folder}: expected a bundle with {MANIFEST}, there is none: give a folder that edgedet export "
            "wrote, or a single .onnx or .xml file"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ModelFileError(f"{path}: cannot be read as JSON ({e})") from None
    entries = data.get("files") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise ModelFileError(f"{path}: expected an object with a list `files`: not a manifest of edgedet")
    recommended = data.get("recommended") or {}
    if not isinstance(recommended, dict) or not set(recommended.values()) <= {"fp32", "int8"}:
        raise ModelFileError(f"{path}: recommended: expected engine: fp32 or int8, got {recommended!r}")
    return Manifest(tuple(_entry(path, e) for e in entries), recommended)


def _entry(manifest: Path, entry: Any) -> BundleFile:
    try:
        relative = str(entry["path"])
        engines = entry.get("engines") or ()
        if isinstance(engines, str):
            engines = (engines,)
        file = BundleFile(
            relative,
            str(entry["sha256"]),
            int(entry["bytes"]),
            str(entry.get("precision") or ""),
            tuple(engines),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelFileError(
            f"{manifest}: files: expected objects with path, sha256 and bytes, got {str(entry)[:80]}"
        ) from None
    if Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise ModelFileError(f"{manifest}: files: expected a path within the bundle, got {relative!r}")
    return file


def verify_bundle(folder: str | Path) -> list[str]:
    """Compare a bundle's files with its manifest.

    Returns:
        One line per problem: a file that is missing, of another size, or of another content. Empty if all is
        well.

    Raises:
        ModelFileError: The manifest cannot be read.
    """
    root = Path(folder)
    problems = []
    for file in read_manifest(root).files:
        path = root / file.path
        if not path.is_file():
            problems.append(f"{file.path}: is missing")
        elif path.stat().st_size != file.size:
            problems.append(f"{file.path}: expected {file.size} bytes, got {path.stat().st_size}")
        elif (digest := _sha256(path)) != file.sha256:
            problems.append(f"{file.path}: expected sha256 {file.sha256[:12]}…, got {digest[:12]}…")
    return problems


def _sha256(path: Path) -> str:
    import hashlib  # loads OpenSSL, which detecting does not need

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
