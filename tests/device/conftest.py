"""The scripts in docker/ as importable modules."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

sys.path += [str(REPOSITORY / "docker"), str(REPOSITORY / "docker" / "assemble")]
