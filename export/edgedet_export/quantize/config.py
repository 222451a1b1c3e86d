"""What a user may ask of quantization."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet_export.quantize.number_format import CpuKind, this_cpu
from edgedet_export.quantize.ranges import RangeRule
from edgedet_export.quantize.targets import get_target
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import ArgumentError, InputError

__all__ = ["QuantConfig"]


@dataclass(frozen=True, slots=True)
class QuantConfig:
    """Options of one quantization; validated when made.

    Attributes:
        engine: The engine that the file is made for, a key of `TARGETS`.
        max_drop: Largest accepted loss in points of 100: of AP where the caller can evaluate, else of agreement
            between FP32 and INT8 detections, scaled by `DROP_PER_DISAGREEMENT`.
        max_float: Largest accepted share of the MACs that stay in float, 0..1.
        cpu: Kind of CPU that will run the file; None: this one.
        rules: Range rules to try, in order.
        max_images: Calibrate with at most this many pictures.
        judge_images: Compare detections on this many of them.
        mean_images: Measure the means for bias correction on this many of them.
        probe_images: Measure single layers on this many of them.
        threads: Threads for latencies; None: what this process may use.
        latency_runs: Timed runs per candidate.
        foreign: The network came as a file of somebody else: the engine loads each candidate in a child process first.
    """

    engine: EngineName = "onnxruntime"
    max_drop: float = 0.5
    max_float: float = 0.15
    cpu: CpuKind | None = None
    rules: tuple[RangeRule, ...] = ("mse", "percentile")
    max_images: int = 128
    judge_images: int = 48
    mean_images: int = 16
    probe_images: int = 3
    threads: int | None = None
    latency_runs: int = 30
    foreign: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any slow work."""
        get_target(self.engine)
        if self.max_drop < 0:
            raise ArgumentError("max_drop", f"expected 0 or more points, got {self.max_drop}")
        if not 0 <= self.max_float <= 1:
            raise ArgumentError("max_float", f"expected a share of the MACs, 0..1, got {self.max_float}")
        counts = (
            self.max_images,
            self.judge_images,
            self.mean_images,
            self.probe_images,
            self.latency_runs,
        )
        if min(counts) < 1 or not self.rules:
            raise InputError(f"INT8: expected positive numbers of images and runs, and a rule, got {counts}")

    @property
    def cpu_kind(self) -> CpuKind:
        """The CPU that the file is made for."""
        return self.cpu or this_cpu()
