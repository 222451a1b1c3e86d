"""Where real checkpoints, photos and reference outputs lie: the one place that knows. Tests and benchmarks ask here."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Return the folder that `EDGEDET_SHARED` names, or ``../shared`` beside the repository; it may be absent."""
    return Path(os.environ.get("EDGEDET_SHARED") or ROOT.parent / "shared")
