"""Caches of the libraries behind edgedet go to a temporary folder, which is removed when the command ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["keep_caches_aside"]

_VARIABLES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def keep_caches_aside() -> None:
    """Point matplotlib and torch at a folder of this process's own.

    They would write into HOME and into folders of fixed names in the temporary folder. A variable that is set already
    is respected. The folder is made by whoever writes to it first, so a command that needs none pays nothing.
    """
    folder = Path(tempfile.gettempdir(), f"edgedet-caches-{os.getpid()}")
    for name in _VARIABLES:
        os.environ.setdefault(name, str(folder / name.lower()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
