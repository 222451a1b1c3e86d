"""Whether a bundle's model file, and the weights beside it, are those that its manifest lists.

Looked at whenever an engine is about to open a file, key or no key: a bundle that was copied badly, or whose card is
failing, is one sentence then, and not a detector that sees wrong things. Without a key this is no protection against
somebody who can change the manifest too. The bundle's other files are compared by ``edgedet doctor``.

Only the list of files is read here: reading the whole manifest takes some thirty times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.from_json import read_json
from edgedet_runtime.printable import shown

__all__ = ["digests_as_listed"]


def digests_as_listed(model: Path, beside: Iterable[str]) -> dict[str, str]:
    """Compare a model file and the files that it reads with the manifest of the bundle that lists it.

    Args:
        model: The model file.
        beside: Names of files of weights, relative to the model's folder.

    Returns:
        Name relative to the model's folder → SHA-256, hexadecimal; empty where no bundle lists the model.

    Raises:
        ModelFileError: The manifest does not list a file of weights, or a file is not the one that it lists; or the
            manifest in the model's own folder is no JSON.
    """
    from edgedet_runtime.bundle.manifest import MANIFEST, file_sha256

    absolute = model.absolute()
    for folder in absolute.parents:
        if not (folder / MANIFEST).is_file():
            continue
        try:
            listed = _listed(read_json(folder / MANIFEST))
        except ModelFileError:
            if folder == absolute.parent:
                raise
            continue
        inner = absolute.parent.relative_to(folder)
        if (inner / absolute.name).as_posix() not in listed:
            continue
        digests = {}
        for name in (absolute.name, *beside):
            path = (inner / name).as_posix()
            if path not in listed:
                raise ModelFileError(
                    f"{folder}: {absolute.name} reads {shown(name)}: expected only files that the bundle's {MANIFEST}"
                    " lists; export it again"
                )
            size, digest = listed[path]
            try:
                found = (folder / path).stat().st_size
                digests[name] = file_sha256(folder / path) if found == size else f"{found} bytes"
            except OSError as e:
                raise ModelFileError(f"{folder / path}: cannot be read ({e.strerror or e})") from None
            if digests[name] != digest:
                got = f"{found} bytes" if found != size else f"sha256 {digests[name][:12]}…"
                expected = f"{shown(str(size))} bytes" if found != size else f"sha256 {shown(str(digest)[:12])}…"
                raise ModelFileError(
                    f"{folder / path}: expected {expected} as the bundle's {MANIFEST} has it, got {got}: the file was"
                    " damaged or exchanged; copy the bundle again, or export it again"
                )
        return digests
    return {}


def _listed(manifest: Any) -> dict[str, tuple[object, object]]:
    """Return path → size and SHA-256 as a manifest says them; nothing where it is the manifest of something else."""
    files = manifest.get("files") if isinstance(manifest, dict) else None
    entries = [f for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    return {f["path"]: (f.get("bytes"), f.get("sha256")) for f in entries if isinstance(f.get("path"), str)}
