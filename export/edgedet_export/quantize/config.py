"""What a user may ask of quantisation, and what the target CPU demands."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal

from edgedet_runtime.cpu import cpu_features
from edgedet_runtime.errors import InputError

__all__ = ["CpuKind", "NumberFormat", "QuantConfig", "QuantEngine", "RangeRule", "this_cpu"]

QuantEngine = Literal["onnxruntime", "openvino"]
CpuKind = Literal["vnni", "avx2", "dotprod", "neon"]
RangeRule = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How numbers are stored in 8 bits.

    Attributes:
        activations: ``uint8`` with a zero point, or ``int8`` with one.
        weight_limit: Largest magnitude of a weight: 127, or 63 where products of full-range numbers saturate.
    """

    activations: Literal["uint8", "int8"]
    weight_limit: int


# x86 multiplies unsigned by signed bytes. VNNI adds the products in 32 bits; plain AVX2 (vpmaddubsw) adds two of them
# in 16 bits, which 255 * 127 * 2 overflows, so weights get one bit less there. ARM's dot product takes equal signs.
_FORMATS: dict[CpuKind, NumberFormat] = {
    "vnni": NumberFormat("uint8", 127),
    "avx2": NumberFormat("uint8", 63),
    "dotprod": NumberFormat("int8", 127),
    "neon": NumberFormat("int8", 127),
}


def this_cpu() -> CpuKind:
    """Return the kind of the CPU that this runs on."""
    features = cpu_features()
    if platform.machine().lower() in ("aarch64", "arm64", "armv7l", "armv8l"):
        return "dotprod" if "dotprod" in features else "neon"
    return "vnni" if "vnni" in features else "avx2"


@dataclass(frozen=True, slots=True)
class QuantConfig:
    """Options of one quantisation; validated when made.

    Attributes:
        engine: The engine that the file is made for.
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
    """

    engine: QuantEngine = "onnxruntime"
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

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any slow work."""
        if self.engine not in ("onnxruntime", "openvino"):
            raise InputError(f"INT8: expected the engine onnxruntime or openvino, got {self.engine!r}")
        if self.max_drop < 0:
            raise InputError(f"--max-drop: expected 0 or more points, got {self.max_drop}")
        if not 0 <= self.max_float <= 1:
            raise InputError(f"--max-float: expected a share of the MACs, 0..1, got {self.max_float}")
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

    @property
    def number_format(self) -> NumberFormat:
        """The 8-bit formats for `cpu_kind`."""
        return _FORMATS[self.cpu_kind]
