"""What a comparison says: each model under each plan, with what it costs, how fast it is and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedet.comparison.correlation import Correlation
from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.profiling.layers import Layer
from edgedet_runtime.profiling.machine import Machine
from edgedet_runtime.profiling.statistics import Interval, Summary

__all__ = ["Accuracy", "Comparison", "Contender", "display_names"]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a contender finds on labelled pictures, each 0..1; None where there is nothing to score.

    Attributes:
        ap: COCO AP, mean over IoU 0.50:0.95.
        ap50: COCO AP at IoU 0.5.
        precision: At the score threshold with the best F1, IoU 0.5, all classes together; so are the next three.
        recall: Share of the objects that are found there.
        f1: Harmonic mean of both.
        conf: That threshold.
    """

    ap: float | None = None
    ap50: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    conf: float | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """One model under one plan.

    Attributes:
        model: Path as given.
        name: The network's variant.
        plan: Engine, precision and threads.
        input_hw: Input rows and columns.
        trained: False where the weights are random; None for a single file, which does not tell.
        params: Parameters of the unfused network; None for a single file, which does not tell.
        gflops: 2 x multiply-accumulates of the unfused network at this input, 1e9.
        memory_access_bytes: What its layers read and write, unfused, in float32, if nothing stays in a cache.
        size_bytes: Model file with its weights.
        latency: End to end, ms.
        infer_ms: Median of the engine's part of it.
        speed_up: FP32 median of the same engine and threads over this median; None for FP32 itself.
        ratio_to_first: This median over that of the first model under the same plan, with its 95 % interval; None
            for the first model itself.
        accuracy: None without data.
        ap_drop: FP32's AP minus this one, in points of 100; None for FP32 itself and without data.
        best: Whether nothing else here is both faster and more accurate (with data), or faster (without).
        layers: As executed; empty where they were not looked into.
    """

    model: str
    name: str
    plan: Plan
    input_hw: tuple[int, int]
    trained: bool | None
    params: int | None
    gflops: float | None
    memory_access_bytes: int | None
    size_bytes: int
    latency: Summary
    infer_ms: float
    speed_up: float | None
    ratio_to_first: Interval | None
    accuracy: Accuracy | None
    ap_drop: float | None
    best: bool
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table, with what it was measured on.

    Attributes:
        machine: Where, in which state.
        other_load_cpus: CPUs that other processes kept busy meanwhile; None where the system does not tell.
        picture: What was detected in, for latency.
        data: The labelled set; None without.
        contenders: Models outermost, in the order given; then engines, precisions and threads.
        correlations: Of costs with latency, for plans that three or more models share.
    """

    machine: Machine
    other_load_cpus: float | None
    picture: str
    data: str | None
    contenders: tuple[Contender, ...]
    correlations: tuple[Correlation, ...]

    def untrained(self) -> list[str]:
        """Return the names to show of the models whose weights are random."""
        names = display_names([entry.model for entry in self.contenders])
        return list(dict.fromkeys(names[entry.model] for entry in self.contenders if entry.trained is False))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON data; a contender's accuracy stands among its own fields."""
        data = asdict(self)
        for entry, own in zip(self.contenders, data["contenders"], strict=True):
            del own["accuracy"]
            own |= asdict(entry.accuracy or Accuracy())
        return data


def display_names(models: Sequence[str]) -> dict[str, str]:
    """Return the name to show for each path: its last part, or all of it where two end alike."""
    last = {model: Path(model).name for model in dict.fromkeys(models)}
    names = list(last.values())
    return {model: name if names.count(name) == 1 else model for model, name in last.items()}
