"""What the machine is, and what else it was doing while something was measured.

A latency means little without these: the CPU, the share of it that a container may use, the governor, thermal
throttling, and other processes' load. Everything is read from ``/proc`` and ``/sys``; what a system
does not have there is None, never a guess.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

from edgedet_runtime import cpu
from edgedet_runtime.cpu import Processor

__all__ = ["LoadMeter", "Machine", "describe_machine", "package_version"]

_CPU0 = Path("/sys/devices/system/cpu/cpu0")
_PACKAGES = ("edgedet", "numpy", "opencv-python-headless", "onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as a measurement sees it.

    Attributes:
        cpu: Model name of the CPU.
        architecture: Such as ``x86_64`` or ``aarch64``.
        features: Instruction sets that matter to inference, such as ``avx512_vnni`` or ``asimddp``.
        cpus_online: Processors that the system has.
        threads_available: Threads that this process may keep busy, after affinity and container quota.
        quota_cpus: CPU quota of the container in CPUs; None where there is none.
        quota_throttle_count: How often the container was stopped since its start because the quota was used up.
        memory_mb: Physical memory.
        governor: Frequency governor of the first CPU.
        frequency_mhz: Frequency of the first CPU now.
        frequency_max_mhz: Its highest frequency.
        throttle_count: Thermal throttling events of the first CPU since boot.
        load_average: Runnable processes, mean over the last minute.
        system: Kernel name and release.
        python: Version of the interpreter.
        packages: Version by package, for those that are installed.
    """

    cpu: str
    architecture: str
    features: tuple[str, ...]
    cpus_online: int
    threads_available: int
    quota_cpus: float | None
    quota_throttle_count: int | None
    memory_mb: int | None
    governor: str | None
    frequency_mhz: int | None
    frequency_max_mhz: int | None
    throttle_count: int | None
    load_average: float | None
    system: str
    python: str
    packages: dict[str, str]

    @property
    def processor(self) -> Processor:
        """Name, architecture and instruction sets."""
        return Processor(self.cpu, self.architecture, self.features)


def describe_machine() -> Machine:
    """Read what the machine is now."""
    processor = cpu.this_processor()
    return Machine(
        cpu=processor.cpu,
        architecture=processor.architecture,
        features=processor.features,
        cpus_online=os.cpu_count() or 1,
        threads_available=cpu.available_threads(),
        quota_cpus=cpu.quota_cores(),
        quota_throttle_count=cpu.quota_throttle_count(),
        memory_mb=_memory_mb(),
        governor=_text(_CPU0 / "cpufreq/scaling_governor"),
        frequency_mhz=_mhz(_CPU0 / "cpufreq/scaling_cur_freq"),
        frequency_max_mhz=_mhz(_CPU0 / "cpufreq/cpuinfo_max_freq"),
        throttle_count=_number(_CPU0 / "thermal_throttle/core_throttle_count"),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: v for name in _PACKAGES if (v := package_version(name)) is not None},
    )


def package_version(name: str) -> str | None:
    """Return an installed distribution's version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class LoadMeter:
    """Measures how busy the machine's other processes were while a block ran.

    ``busy_cpus`` afterwards holds the mean number of CPUs that others kept busy, or None where ``/proc/stat``
    does not exist. Ours are this process's own threads; children count as others.
    """

    busy_cpus: float | None = None

    def __enter__(self) -> LoadMeter:
        """Start."""
        self._start = _busy_and_total_s()
        self._own_start = _own_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        start, end = self._start, _busy_and_total_s()
        if start is None or end is None:
            return
        elapsed_s = (end[1] - start[1]) / (os.cpu_count() or 1)
        others_s = (end[0] - start[0]) - (_own_s() - self._own_start)
        self.busy_cpus = max(0.0, others_s / elapsed_s) if elapsed_s > 0 else 0.0


def _own_s() -> float:
    times = os.times()
    return times.user + times.system


def _busy_and_total_s() -> tuple[float, float] | None:
    """Read CPU seconds since boot over all CPUs: busy, and busy + idle (proc(5), /proc/stat, first line)."""
    text = _text(Path("/proc/stat"))
    if text is None or sys.platform == "win32":
        return None
    ticks = [int(v) for v in text.splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    per_s = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / per_s, sum(ticks) / per_s


def _memory_mb() -> int | None:
    text = _text(Path("/proc/meminfo"))
    if text is None:
        return None
    kib = next((line.split()[1] for line in text.splitlines() if line.startswith("MemTotal:")), None)
    return int(kib) // 1024 if kib else None


def _mhz(path: Path) -> int | None:
    khz = _number(path)
    return None if khz is None else khz // 1000


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
