"""Writing a bundle: a folder that is complete or absent."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgedet_runtime.bundle.manifest import MANIFEST, Manifest
from edgedet_runtime.errors import InputError
from edgedet_runtime.whole_folder import whole_folder

__all__ = ["bundle_folder", "check_place", "write_manifest"]

_FAULTS_OF_THE_PLACE = (
    *(errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR),
    *(errno.EEXIST, errno.EFBIG, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG, errno.ENODEV, errno.ENOENT),
)


def check_place(target: Path, *, overwrite: bool) -> None:
    """Check that a bundle may be written to `target`; cheap, so that it can be asked before any slow work.

    Raises:
        InputError: Something else is there, or a bundle that must not be replaced.
    """
    if target.exists():
        is_bundle = (target / MANIFEST).is_file()
        empty = target.is_dir() and not any(target.iterdir())
        if not (empty or (is_bundle and overwrite)):
            what = "a bundle, and overwriting is off" if is_bundle else "something that is no edgedet bundle"
            raise InputError(f"{target}: expected a free place or an old bundle, got {what}; choose another `out`")


@contextmanager
def bundle_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which becomes `target` if the block ends well, and is removed if not.

    Args:
        target: Where the bundle shall be.
        overwrite: Replace a bundle that is there. A folder that is no bundle is never replaced.

    Raises:
        InputError: `target` is in the way, is being written by another process, or cannot be written (rights, full
            disk).
    """
    check_place(target, overwrite=overwrite)
    try:
        with whole_folder(target) as folder:
            yield folder
            check_place(target, overwrite=overwrite)
    except OSError as e:
        if e.errno not in _FAULTS_OF_THE_PLACE:
            raise
        raise InputError(f"{target}: cannot write the bundle: {e.strerror}; nothing was left behind") from e


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``."""
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
