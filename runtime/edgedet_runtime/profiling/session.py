"""A whole profile: choose the plans, measure them interleaved, alone and with several requests in flight, then start
them cold, then look into their layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime import cpu
from edgedet_runtime.bundle.golden import GOLDEN, read_golden
from edgedet_runtime.bundle.manifest import read_manifest
from edgedet_runtime.bundle.model_files import find_model_file, model_bytes, open_model
from edgedet_runtime.bundle.plan import Plan, recommend
from edgedet_runtime.choices import EngineName, Precision, Trial, parse_engine, parse_precision
from edgedet_runtime.detector import Detector
from edgedet_runtime.errors import ArgumentError, InputError
from edgedet_runtime.profiling.bandwidth import Bandwidth, measure_bandwidth
from edgedet_runtime.profiling.cold_start import ColdStart, measure_cold_start
from edgedet_runtime.profiling.latency import Samples, measure
from edgedet_runtime.profiling.layers import LAYER_ENGINES, Layer, profile_layers
from edgedet_runtime.profiling.machine import LoadMeter, describe_machine, package_version
from edgedet_runtime.profiling.report import PlanProfile, ProfileReport
from edgedet_runtime.profiling.roofline import Peaks, measure_peaks
from edgedet_runtime.profiling.throughput import Throughput, measure_throughput
from edgedet_runtime.steps import StepProgress, Steps
from edgedet_runtime.version import __version__

__all__ = ["ProfileConfig", "choose_picture", "list_plans", "profile_model"]

Image = npt.NDArray[np.uint8]

_DEFAULT_ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    """What to measure.

    Attributes:
        engines: Names; None takes every installed engine that the model has files for (OpenCV only if named).
        precisions: ``fp32``, ``int8``; None takes those that the model has.
        threads: Thread counts; None takes what the machine offers.
        runs: Counted runs per plan.
        cold_starts: Fresh processes per plan; 0 leaves cold start and memory out.
        cold_runs: Further runs in one fresh process per plan, for the growth of memory.
        layers: Whether to look into the layers, and measure the machine's peaks to judge them by.
        throughput_s: Seconds with several requests in flight, per engine and precision; 0 leaves throughput out.
        requests: Requests in flight; None takes as many as there are threads.
        trial: As that of `Detector`.
    """

    engines: tuple[EngineName, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    threads: tuple[int, ...] | None = None
    runs: int = 50
    cold_starts: int = 3
    cold_runs: int = 400
    layers: bool = True
    throughput_s: float = 0.0
    requests: int | None = None
    trial: Trial | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for engine in self.engines or ():
            parse_engine(engine, argument="engines")
        for precision in self.precisions or ():
            parse_precision(precision, argument="precisions")
        if self.runs < 1:
            raise ArgumentError("runs", f"expected 1 or more, got {self.runs}")
        for name, count in (("cold_starts", self.cold_starts), ("cold_runs", self.cold_runs)):
            if count < 0:
                raise ArgumentError(name, f"expected 0 or more, got {count}")
        for number in self.threads or (() if self.threads is None else (0,)):
            cpu.check_threads(number)
        if not 0 <= self.throughput_s < float("inf"):
            raise ArgumentError("throughput_s", f"expected 0 or more seconds, got {self.throughput_s}")
        if self.requests is not None:
            cpu.check_threads(self.requests, argument="requests")


def profile_model(
    model: Path, config: ProfileConfig, *, image_bgr: Image | None = None, progress: StepProgress | None = None
) -> ProfileReport:
    """Profile a bundle or model file on this machine.

    Args:
        model: Bundle folder, ``.onnx`` or ``.xml``.
        config: What to measure.
        image_bgr: uint8 (H, W, 3) picture to detect in; None takes the bundle's golden picture, or a made-up one
            for a single file.
        progress: Called with steps done, steps in all, and what comes next.

    Raises:
        InputError: The model has nothing for the engines and precisions asked for.
        EngineError: An engine failed.
    """
    plans = list_plans(model, config)
    image, picture = choose_picture(model, image_bgr)
    steps = Steps(progress, 1 + bool(config.throughput_s) + (2 if config.layers else 1) * len(plans))
    before = describe_machine()
    with LoadMeter() as load:
        loaded, samples = _measure_latency(model, plans, image, config, steps)
        throughput = _measure_throughput(model, plans, image, config, steps)
    after = describe_machine()
    cold = {}
    for plan in plans:
        steps.begin(f"cold start, {plan}")
        cold[plan] = _cold(model, plan, image, config)
    insides = _look_inside(loaded, config, steps)
    profiles = tuple(
        _entry(model, plan, loaded[plan].file, samples[plan], cold[plan], *insides.get(plan, ((), None)))
        for plan in plans
    )
    first = loaded[plans[0]]
    medians = {p.plan: p.summaries()["end_to_end_ms"].median for p in profiles}
    return ProfileReport(
        model=str(model),
        name=first.name,
        input_hw=first.input_hw,
        picture=picture,
        machine=before,
        other_load_cpus=load.busy_cpus,
        throttled=_grew(before.throttle_count, after.throttle_count),
        quota_throttled=_grew(before.quota_throttle_count, after.quota_throttle_count),
        plans=profiles,
        recommended=recommend(medians, allowed=_allowed(model, plans)),
        tool_version=__version__,
        throughput=throughput,
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What remains of a detector that was measured: its file, its contract's name and input, and an input tensor."""

    file: Path
    name: str
    input_hw: tuple[int, int]
    tensor: npt.NDArray[Any]


def _measure_latency(
    model: Path, plans: Sequence[Plan], image: Image, config: ProfileConfig, steps: Steps
) -> tuple[dict[Plan, _Loaded], dict[Plan, Samples]]:
    steps.begin("loading")
    with ExitStack() as stack:
        detectors = {plan: stack.enter_context(Detector(model, plan=plan, trial=config.trial)) for plan in plans}
        samples = measure(
            detectors,
            image,
            runs=config.runs,
            on_round=lambda done, of: steps.say(f"latency, round {done} of {of}"),
        )
        loaded = {
            plan: _Loaded(d.model_file.path, d.spec.variant, d.spec.input.size_hw, d.preprocess(image)[0].copy())
            for plan, d in detectors.items()
        }
    return loaded, samples


def _measure_throughput(
    model: Path, plans: Sequence[Plan], image: Image, config: ProfileConfig, steps: Steps
) -> tuple[Throughput, ...]:
    if config.throughput_s == 0:
        return ()
    steps.begin("throughput")
    return measure_throughput(
        list(dict.fromkeys((plan.engine, plan.precision) for plan in plans)),
        lambda engine, precision: Detector(model, plan=Plan(engine, precision, 1), trial=config.trial),
        image,
        requests=config.requests or cpu.available_threads(),
        seconds=config.throughput_s,
        on_round=lambda done, of: steps.say(f"throughput, window {done} of {of}"),
    )


def _look_inside(
    loaded: Mapping[Plan, _Loaded], config: ProfileConfig, steps: Steps
) -> dict[Plan, tuple[tuple[Layer, ...], Peaks]]:
    """Measure layers, and the peaks that they are held against: once per engine and thread count."""
    found: dict[Plan, tuple[tuple[Layer, ...], Peaks]] = {}
    bandwidths: dict[int, Bandwidth] = {}
    peaks: dict[tuple[EngineName, int], Peaks] = {}
    for plan, of in loaded.items():
        if not config.layers or plan.engine not in LAYER_ENGINES:
            continue
        steps.begin(f"layers, {plan}")
        if plan.threads not in bandwidths:
            bandwidths[plan.threads] = measure_bandwidth(plan.threads)
        key = plan.engine, plan.threads
        if key not in peaks:
            peaks[key] = measure_peaks(*key, bandwidths[plan.threads])
        source = open_model(of.file, engine=plan.engine).source
        found[plan] = profile_layers(plan.engine, source, of.tensor, threads=plan.threads), peaks[key]
    return found


def _grew(before: int | None, after: int | None) -> bool | None:
    return None if before is None or after is None else after > before


def list_plans(model: Path, config: ProfileConfig) -> list[Plan]:
    """List the plans to measure, engines outermost.

    Raises:
        InputError: The model has nothing for the engines asked for, or none that is installed.
    """
    threads = config.threads or (cpu.available_threads(),)
    have = dict(_files(model, config))
    found = [
        Plan(engine, precision, count)
        for engine in have
        for precision in (config.precisions or have[engine])
        for count in dict.fromkeys(threads)
    ]
    if not found:
        raise InputError(f"{model}: expected a file for an installed engine, got none; name one with `engines`")
    return found


def _files(model: Path, config: ProfileConfig) -> Iterator[tuple[EngineName, tuple[Precision, ...]]]:
    """Yield each engine to measure with the precisions that the model has for it."""
    if not model.is_dir():
        file = find_model_file(model, engine=config.engines[0] if config.engines else None)
        yield file.engine, (file.precision,)
        yield from ((engine, (file.precision,)) for engine in (config.engines or ())[1:])
        return
    manifest = read_manifest(model)
    for engine in config.engines or _DEFAULT_ENGINES:
        precisions = tuple(sorted({f.precision for f in manifest.files if f.precision and engine in f.engines}))
        if config.engines is not None:
            yield engine, precisions or ("fp32",)
        elif precisions and package_version(engine) is not None:
            yield engine, precisions


def _allowed(model: Path, plans: Sequence[Plan]) -> list[Plan] | None:
    """Return the plans whose precision the export recommends for the engine; None where it says nothing."""
    recommended: Mapping[str, str] = read_manifest(model).recommended if model.is_dir() else {}
    kept = [plan for plan in plans if plan.precision != "int8" or recommended.get(plan.engine, "int8") == "int8"]
    return kept or None


def choose_picture(model: Path, image_bgr: Image | None) -> tuple[Image, str]:
    """Return the picture to measure with, and what it is: the given one, the bundle's, or noise."""
    if image_bgr is not None:
        return image_bgr, f"given, {image_bgr.shape[1]}x{image_bgr.shape[0]}"
    if (model / GOLDEN).is_file():
        image = read_golden(model, ()).image_bgr
        return image, f"golden picture of the bundle, {image.shape[1]}x{image.shape[0]}"
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    return image, "noise, 1280x720"


def _cold(model: Path, plan: Plan, image: Image, config: ProfileConfig) -> ColdStart | None:
    if config.cold_starts == 0:
        return None
    return measure_cold_start(model, plan, image, repeats=config.cold_starts, runs=config.cold_runs)


def _entry(
    model: Path,
    plan: Plan,
    file: Path,
    samples: Samples,
    cold: ColdStart | None,
    layers: tuple[Layer, ...],
    peaks: Peaks | None,
) -> PlanProfile:
    relative = file.relative_to(model).as_posix() if model.is_dir() else file.name
    return PlanProfile(plan, relative, model_bytes(file), samples, cold, layers, peaks)
