"""Resident memory of a process, from ``/proc/<pid>/status``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak_resident_mb", "resident_mb"]


def resident_mb(pid: int | None = None) -> float | None:
    """Return the resident set in MiB (VmRSS) of a process, by default this one; None without /proc."""
    return _field_mb("VmRSS:", pid)


def peak_resident_mb(pid: int | None = None) -> float | None:
    """Return the highest resident set so far in MiB (VmHWM) of a process, by default this one."""
    return _field_mb("VmHWM:", pid)


def _field_mb(name: str, pid: int | None) -> float | None:
    path = Path("/proc/self/status" if pid is None else f"/proc/{pid}/status")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), None)
