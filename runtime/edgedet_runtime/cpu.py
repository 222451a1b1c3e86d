"""What this machine's CPU offers: threads that may really be used, instruction sets, its name.

In a container ``os.cpu_count()`` counts the host's cores; an engine with that many threads on a quota of two
cores spends its time being throttled. The quota stands in the control group's files.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from edgedet_runtime.errors import ArgumentError, InputError

__all__ = [
    "MOST_THREADS",
    "Processor",
    "available_threads",
    "check_threads",
    "cpu_features",
    "cpu_model",
    "quota_cores",
    "quota_throttle_count",
    "system_text",
    "this_processor",
]

THREADS_VARIABLE = "EDGEDET_THREADS"
MOST_THREADS = 1024
"""More than any machine that this is for has; some engines overflow, others start them all."""

_FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "amx_int8": ("amx_int8",),
    "amx_bf16": ("amx_bf16",),
    "avx512_bf16": ("avx512_bf16",),
    "neon": ("neon", "asimd"),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "fp16": ("asimdhp", "avx512_fp16"),
}


def available_threads(root: Path = Path("/")) -> int:
    """Return how many threads an engine should use.

    That is ``EDGEDET_THREADS`` if set, else the smallest of the cores this process may run on and the control
    group's CPU quota (v2 ``cpu.max``, v1 ``cpu.cfs_quota_us``) of its group or any parent, rounded up; at
    least 1.

    Args:
        root: Where ``proc`` and ``sys`` are found.

    Raises:
        InputError: ``EDGEDET_THREADS`` is not a whole number from 1 to `MOST_THREADS`.
    """
    wish = os.environ.get(THREADS_VARIABLE, "").strip()
    if wish:
        if not wish.isdecimal() or len(wish) > 9 or not 1 <= int(wish) <= MOST_THREADS:
            raise InputError(
                f"{THREADS_VARIABLE}: expected a positive whole number up to {MOST_THREADS}, got {wish[:40]!r}"
            )
        return int(wish)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = quota_cores(root)
    return cores if quota is None else min(cores, math.ceil(quota))


def quota_cores(root: Path = Path("/")) -> float | None:
    """Return the tightest CPU quota of the control group and its parents in cores, or None where there is none."""
    quotas: list[float] = []
    for folder, version in _group_folders(root):
        if version == 2:
            quota, _, period = system_text(folder / "cpu.max").strip().partition(" ")
        else:
            quota, period = (system_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        quotas += _ratio(quota, period)
    return min(quotas, default=None)


def quota_throttle_count(root: Path = Path("/")) -> int | None:
    """Return how often the control group or a parent was stopped because its CPU quota was used up.

    None where the system does not count it. The file is ``cpu.stat``, the line ``nr_throttled``, in both versions.
    """
    counts = []
    for folder, _ in _group_folders(root):
        for line in system_text(folder / "cpu.stat").splitlines():
            name, _, count = line.partition(" ")
            if name == "nr_throttled" and count.strip().isdecimal():
                counts.append(int(count))
    return sum(counts) if counts else None


def _group_folders(root: Path) -> list[tuple[Path, int]]:
    """Return the folders of the process's CPU control group and its parents, each with the version of its files."""
    folders: dict[Path, int] = {}
    for line in system_text(root / "proc/self/cgroup").splitlines():
        number, controllers, group = (*line.split(":", 2), "", "")[:3]
        group_path = group.strip("/")
        if number == "0" and not controllers:
            folders |= dict.fromkeys(_up(root / "sys/fs/cgroup", group_path), 2)
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                folders |= dict.fromkeys(_up(root / "sys/fs/cgroup" / mount, group_path), 1)
    return list({folder.resolve(): (folder, version) for folder, version in folders.items()}.values())


def _up(mount: Path, group: str) -> list[Path]:
    """Return the mount point and the folders below it down to the group's.

    A container sees its own group as the mount point, whatever path ``/proc/self/cgroup`` tells.
    """
    parts = [p for p in group.split("/") if p not in ("", "..")]
    return list(accumulate(parts, Path.joinpath, initial=mount))


def _ratio(quota: str, period: str) -> list[float]:
    """Return [quota / period] in cores, or [] for no limit."""
    if not (quota.isdecimal() and period.isdecimal()) or int(quota) == 0 or int(period) == 0:
        return []
    return [int(quota) / int(period)]


def check_threads(number: int, *, argument: str = "threads") -> int:
    """Return a number of threads or requests, once it is known to be one that engines can take.

    Args:
        number: What was asked for.
        argument: The argument that said it, for the message.

    Raises:
        ArgumentError: It is no integer from 1 to `MOST_THREADS`.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_THREADS:
        raise ArgumentError(argument, f"expected a number from 1 to {MOST_THREADS}, got {number!r:.40}")
    return number


def system_text(path: Path) -> str:
    """Return a file's text; empty where the system has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_features(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the instruction sets that matter here, sorted, such as avx2, vnni, amx_int8, dotprod, i8mm."""
    flags: set[str] = set()
    for line in system_text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            flags.update(value.split())
    return tuple(sorted(name for name, any_of in _FEATURES.items() if flags.intersection(any_of)))


def cpu_model(root: Path = Path("/")) -> str:
    """Return the processor's name, or its architecture where the system does not tell it."""
    names: dict[str, str] = {}
    for line in system_text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        names.setdefault(key.strip().lower(), value.strip())
    return names.get("model name") or names.get("model") or names.get("hardware") or platform.machine() or "unknown"


@dataclass(frozen=True, slots=True)
class Processor:
    """Which processor something was measured on.

    Attributes:
        cpu: Its name, as the system tells it.
        architecture: Such as ``x86_64`` or ``aarch64``.
        features: Instruction sets that matter to inference, see `cpu_features`.
    """

    cpu: str
    architecture: str
    features: tuple[str, ...]

    def computes_like(self, other: Processor) -> bool:
        """Return whether engines have the same kernels on both; names differ between revisions of one board already."""
        return self.architecture == other.architecture and set(self.features) == set(other.features)


def this_processor(root: Path = Path("/")) -> Processor:
    """Return the processor that this process runs on."""
    return Processor(cpu_model(root), platform.machine(), cpu_features(root))
