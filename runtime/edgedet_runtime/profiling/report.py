"""What a profile says, as one frozen value that is JSON and can be compared with an older one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling.cold_start import ColdStart
from edgedet_runtime.profiling.latency import Samples
from edgedet_runtime.profiling.layers import Layer, int8_share
from edgedet_runtime.profiling.machine import Machine
from edgedet_runtime.profiling.plans import Plan
from edgedet_runtime.profiling.roofline import Peaks, Place, RooflineSummary, place, summarise_places
from edgedet_runtime.profiling.statistics import Interval, Summary, ratio_of_medians, summarise
from edgedet_runtime.profiling.throughput import Throughput

__all__ = ["Change", "PlanProfile", "ProfileReport", "compare"]

FORMAT = "edgedet-profile-1"
_WORTH_TELLING = 1.03


@dataclass(frozen=True, slots=True)
class PlanProfile:
    """One plan's figures.

    Attributes:
        plan: Engine, precision and threads.
        file: The model file, relative to the bundle.
        size_bytes: Of the file, with its weights.
        samples: Every counted run.
        cold_start: A fresh process; None where it was not measured.
        layers: As executed; empty where the engine does not tell.
        peaks: What the engine reaches here with the plan's threads; None where the layers were not looked into.
    """

    plan: Plan
    file: str
    size_bytes: int
    samples: Samples
    cold_start: ColdStart | None = None
    layers: tuple[Layer, ...] = ()
    peaks: Peaks | None = None

    def summaries(self) -> dict[str, Summary]:
        """Return the percentiles of ``pre_ms``, ``infer_ms``, ``post_ms`` and ``end_to_end_ms``."""
        return {name: summarise(values) for name, values in asdict(self.samples).items()}

    def places(self) -> tuple[Place, ...]:
        """Return where each of the layers lies under the roofs; nothing without peaks."""
        peaks = self.peaks
        return () if peaks is None else tuple(place(layer, peaks) for layer in self.layers)

    def roofline(self) -> RooflineSummary | None:
        """Return where the layers' time goes; None without peaks."""
        return None if self.peaks is None else summarise_places(self.layers, self.places())

    def to_dict(self) -> dict[str, Any]:
        """Return the plan's figures as JSON data."""
        layers: list[dict[str, Any]] = [{**asdict(x), "intensity": x.intensity} for x in self.layers]
        for row, at in zip(layers, self.places(), strict=False):
            row |= asdict(at)
        roofline = self.roofline()
        return {
            **asdict(self.plan),
            "file": self.file,
            "size_bytes": self.size_bytes,
            "latency": {name: asdict(s) for name, s in self.summaries().items()},
            "samples": asdict(self.samples),
            "cold_start": None if self.cold_start is None else asdict(self.cold_start),
            "int8_share": int8_share(self.layers) if self.layers else None,
            "peaks": None if self.peaks is None else asdict(self.peaks),
            "roofline": None if roofline is None else asdict(roofline),
            "layers": layers,
        }


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """A profile of one model on one machine.

    Attributes:
        model: Path as given.
        name: Variant of the network.
        input_hw: Its input's rows and columns.
        picture: What was detected in.
        machine: Where, in which state.
        other_load_cpus: CPUs that other processes kept busy meanwhile; None where the system does not tell.
        throttled: Whether heat throttled the CPU meanwhile; None where the system does not tell.
        quota_throttled: Whether the container was stopped meanwhile because its CPU quota was used up; None where the
            system does not tell.
        plans: Figures by plan.
        recommended: The plan to use for one request at a time.
        tool_version: Of edgedet.
        throughput: With several requests in flight, by engine and precision; empty where it was not measured.
    """

    model: str
    name: str
    input_hw: tuple[int, int]
    picture: str
    machine: Machine
    other_load_cpus: float | None
    throttled: bool | None
    quota_throttled: bool | None
    plans: tuple[PlanProfile, ...]
    recommended: Plan
    tool_version: str
    throughput: tuple[Throughput, ...] = ()

    def one_request_per_s(self, engine: str, precision: str) -> float:
        """Return the images per second of one request after the other, in the best of the measured thread counts."""
        medians = (
            entry.summaries()["end_to_end_ms"].median
            for entry in self.plans
            if (entry.plan.engine, entry.plan.precision) == (engine, precision)
        )
        return max((1e3 / ms for ms in medians), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data; floats keep four decimals."""
        data = asdict(self)
        data |= {"format": FORMAT, "plans": [entry.to_dict() for entry in self.plans]}
        return {str(k): _rounded(v) for k, v in data.items()}


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


def compare(new: ProfileReport, old_path: Path) -> tuple[Change, ...]:
    """Compare with a profile that was saved with ``--json``.

    The interval covers the noise within the two measurements, not what changed on the machine between them.

    Raises:
        InputError: The file is no profile, of another CPU, or has no plan in common.
    """
    try:
        old = json.loads(old_path.read_text(encoding="utf-8"))
        if old["format"] != FORMAT:
            raise ValueError(f"format {old['format']!r}")
        cpu = str(old["machine"]["cpu"])
        samples = {
            Plan(str(p["engine"]), str(p["precision"]), int(p["threads"])): [
                float(v) for v in p["samples"]["end_to_end_ms"]
            ]
            for p in old["plans"]
        }
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{old_path}: expected a profile written with --json, got something else ({e})") from None
    if cpu != new.machine.cpu:
        raise InputError(f"{old_path}: was measured on another CPU, {cpu}; this one is {new.machine.cpu}")
    common = [entry for entry in new.plans if entry.plan in samples]
    if not common:
        raise InputError(f"{old_path}: expected a plan in common with this profile, got {', '.join(map(str, samples))}")
    changes = []
    for entry in common:
        ratio = ratio_of_medians(entry.samples.end_to_end_ms, samples[entry.plan])
        changes.append(Change(entry.plan, ratio, _verdict(ratio)))
    return tuple(changes)


def _verdict(ratio: Interval) -> str:
    if not ratio.excludes(1.0) or 1 / _WORTH_TELLING < ratio.estimate < _WORTH_TELLING:
        return "same"
    return "slower" if ratio.estimate > 1 else "faster"


def _rounded(value: Any) -> Any:
    """Round floats for the file: four decimals are 0.1 microseconds in a millisecond figure."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return value
