"""Where this device remembers, outside of all bundles: the folder that ``EDGEDET_STATE`` names.

By default it is ``$XDG_STATE_HOME/edgedet``, which is ``~/.local/state/edgedet``. ``EDGEDET_STATE=none`` says that
nothing is remembered: neither the versions of signed bundles (`bundle.seen_versions`) nor which model files an engine
has survived (`engines.first_load`).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["NO_STATE", "STATE_VARIABLE", "state_folder"]

STATE_VARIABLE = "EDGEDET_STATE"
NO_STATE = "none"


def state_folder() -> Path | None:
    """Return the folder in which this device keeps what it has seen; None where it was told to keep nothing."""
    named = os.environ.get(STATE_VARIABLE, "").strip()
    if named == NO_STATE:
        return None
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME", "").strip() or os.path.expanduser("~/.local/state")
    return Path(base if os.path.isabs(base) else "/.local/state") / "edgedet"  # a user without a home has none
