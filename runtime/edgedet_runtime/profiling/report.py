"""What a profile says, as one frozen value that goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.choices import EngineName, Precision
from edgedet_runtime.errors import InputError, ModelFileError
from edgedet_runtime.from_json import from_json, read_json
from edgedet_runtime.profiling.cold_start import ColdStart
from edgedet_runtime.profiling.latency import Samples
from edgedet_runtime.profiling.layers import Layer, int8_share
from edgedet_runtime.profiling.machine import Machine
from edgedet_runtime.profiling.roofline import Peaks, Place, RooflineSummary, place, summarize_places
from edgedet_runtime.profiling.statistics import Summary, summarize
from edgedet_runtime.profiling.throughput import Throughput

__all__ = ["PlanProfile", "ProfileReport", "read_profile"]

FORMAT = "edgedet-profile-1"


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
        return {name: summarize(values) for name, values in asdict(self.samples).items()}

    def places(self) -> tuple[Place, ...]:
        """Return where each of the layers lies under the roofs; nothing without peaks."""
        peaks = self.peaks
        return () if peaks is None else tuple(place(layer, peaks) for layer in self.layers)

    def roofline(self) -> RooflineSummary | None:
        """Return where the layers' time goes; None without peaks."""
        return None if self.peaks is None else summarize_places(self.layers, self.places())

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

    def one_request_per_s(self, engine: EngineName, precision: Precision) -> float:
        """Return the images per second of one request after the other, in the best of the measured thread counts."""
        medians = (
            entry.summaries()["end_to_end_ms"].median
            for entry in self.plans
            if (entry.plan.engine, entry.plan.precision) == (engine, precision)
        )
        return max((1e3 / ms for ms in medians), default=0.0)

    @staticmethod
    def from_dict(data: Any) -> ProfileReport:
        """Build a report from what `to_dict` gave.

        Raises:
            ValueError: It is something else, or of another version.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            got = data.get("format") if isinstance(data, Mapping) else None
            raise ValueError(f"format: expected {FORMAT}, got {got!r:.40}")
        plans = data.get("plans")
        if not isinstance(plans, list) or not all(isinstance(entry, Mapping) for entry in plans):
            raise ValueError("plans: expected a list of objects")
        entries = [{**entry, "plan": entry} for entry in plans]  # a plan's three fields stand among its figures
        return from_json(ProfileReport, {**data, "plans": entries})

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data; floats keep four decimals."""
        data = asdict(self)
        data |= {"format": FORMAT, "plans": [entry.to_dict() for entry in self.plans]}
        return {str(k): _rounded(v) for k, v in data.items()}


def read_profile(path: Path) -> ProfileReport:
    """Read a profile that was saved with ``--json``; of one that was taken with ``--host``, the board's.

    Raises:
        InputError: The file cannot be read, or is something else.
    """
    try:
        data = read_json(path)
        return ProfileReport.from_dict(data["profile"] if isinstance(data, dict) and "profile" in data else data)
    except ModelFileError as e:
        raise InputError(str(e)) from None
    except ValueError as e:
        raise InputError(f"{path}: expected a profile written with --json, got something else ({e})") from None


def _rounded(value: Any) -> Any:
    """Round floats for the file: four decimals are 0.1 microseconds in a millisecond figure."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return value
