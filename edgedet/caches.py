"""Commands leave no caches: libraries get a temporary folder that is removed, and no compiled model is kept."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from edgedet_runtime.choices import CACHE_VARIABLE, NO_CACHE

__all__ = ["keep_caches_aside"]

_VARIABLES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def keep_caches_aside() -> None:
    """Point matplotlib and torch at a folder of this process's own.

    They would write into HOME and into folders of fixed names in the temporary folder. A variable that is set already
    is respected. The folder is made by whoever writes to it first, so a command that needs none pays nothing. Models
    that OpenVINO compiled are kept by programs around `Detector` only: commands start cold, which `profile` measures.
    """
    folder = Path(tempfile.gettempdir(), f"edgedet-caches-{os.getpid()}")
    for name in _VARIABLES:
        os.environ.setdefault(name, str(folder / name.lower()))
    os.environ.setdefault(CACHE_VARIABLE, NO_CACHE)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
