"""The processes of a session: what a test started, and all that came of it."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["alive", "dead_soon"]


def alive(session: int) -> list[int]:
    """Return the processes of a session that are alive, zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def dead_soon(session: int) -> bool:
    """Return whether all processes of a session end by themselves within a minute."""
    deadline = time.monotonic() + 60
    while alive(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(session)
