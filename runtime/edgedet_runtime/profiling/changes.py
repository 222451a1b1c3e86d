"""Is a change of latency real? One profile against an older one of the same model on the same CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.errors import ArgumentError
from edgedet_runtime.profiling.report import ProfileReport
from edgedet_runtime.profiling.statistics import Interval, ratio_of_medians
from edgedet_runtime.profiling.turns import BLOCK

__all__ = ["Change", "ProfileChanges", "check_cpu", "compare"]

_WORTH_TELLING = 1.03
_LOAD_CPUS = 0.25


@dataclass(frozen=True, slots=True)
class Change:
    """One plan's end-to-end time against an older profile.

    Attributes:
        plan: Measured in both.
        ratio: New median over old, with its 95 % interval.
        verdict: ``faster``, ``slower``, or ``same`` where the interval holds 1 or the change is below 3 %.
    """

    plan: Plan
    ratio: Interval
    verdict: str


@dataclass(frozen=True, slots=True)
class ProfileChanges:
    """What changed between two profiles.

    Attributes:
        changes: Of each plan that both have.
        missing: Plans of the older profile that the new one does not have, or the other way round.
        differs: What else was different and may explain a change, such as versions, the picture or other load.
    """

    changes: tuple[Change, ...]
    missing: tuple[Plan, ...]
    differs: tuple[str, ...]


def check_cpu(old: ProfileReport, cpu: str) -> None:
    """Refuse an older profile that was measured on another CPU.

    Raises:
        ArgumentError: It was.
    """
    if old.machine.cpu != cpu:
        raise ArgumentError("old", f"was measured on another CPU, {old.machine.cpu}; this one is {cpu}")


def compare(new: ProfileReport, old: ProfileReport) -> ProfileChanges:
    """Compare a profile with an older one.

    The interval covers the noise within the two measurements, not what changed on the machine between them.

    Raises:
        InputError: They are of different CPUs or models, or have no plan in common.
    """
    check_cpu(old, new.machine.cpu)
    if (old.name, old.input_hw) != (new.name, new.input_hw):
        raise ArgumentError(
            "old",
            f"was measured with another model, {_model(old)}; this one is {_model(new)}: to hold models against each"
            " other: edgedet compare",
        )
    before = {entry.plan: entry for entry in old.plans}
    after = {entry.plan: entry for entry in new.plans}
    common = [plan for plan in after if plan in before]
    if not common:
        plans = ", ".join(map(str, before)) or "none"
        raise ArgumentError("old", f"expected a plan in common with this profile, got {plans}")
    changes = []
    for plan in common:
        times = (of[plan].samples.end_to_end_ms for of in (after, before))
        ratio = ratio_of_medians(*times, block=BLOCK)
        changes.append(Change(plan, ratio, _verdict(ratio)))
    missing = tuple(plan for plan in [*before, *after] if plan not in common)
    return ProfileChanges(tuple(changes), missing, tuple(_differences(new, old)))


def _model(report: ProfileReport) -> str:
    return f"{report.name} at {report.input_hw[1]}x{report.input_hw[0]}"


def _verdict(ratio: Interval) -> str:
    if ratio.low > 1 and ratio.estimate >= _WORTH_TELLING:
        return "slower"
    return "faster" if ratio.high < 1 and ratio.estimate <= 1 / _WORTH_TELLING else "same"


def _differences(new: ProfileReport, old: ProfileReport) -> Iterator[str]:
    """Name what may explain a change beside the model: each as what it was and what it is."""
    sizes = {entry.file: entry.size_bytes for entry in old.plans}
    for entry in {entry.file: entry for entry in new.plans}.values():
        if sizes.get(entry.file, entry.size_bytes) != entry.size_bytes:
            yield f"{entry.file}: {sizes[entry.file]} bytes, now {entry.size_bytes}"
    if old.picture != new.picture:
        yield f"picture: {old.picture}, now {new.picture}"
    was, now = old.machine, new.machine
    for name in ("threads_available", "quota_cpus", "governor", "system", "python"):
        if getattr(was, name) != getattr(now, name):
            yield f"{name.replace('_', ' ')}: {getattr(was, name)}, now {getattr(now, name)}"
    for package in sorted(was.packages.keys() | now.packages.keys()):
        if was.packages.get(package) != now.packages.get(package):
            yield f"{package}: {was.packages.get(package)}, now {now.packages.get(package)}"
    loads = old.other_load_cpus, new.other_load_cpus
    if None not in loads and abs((loads[1] or 0) - (loads[0] or 0)) > _LOAD_CPUS:
        yield f"load of other processes: {loads[0]:.2f} CPUs, now {loads[1]:.2f}"
    for what, state in (("heat", old.throttled), ("the quota", old.quota_throttled)):
        if state:
            yield f"the older one was throttled by {what}"
    for what, state in (("heat", new.throttled), ("the quota", new.quota_throttled)):
        if state:
            yield f"this one was throttled by {what}"
