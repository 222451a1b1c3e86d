"""Measuring models against each other: latency interleaved over all of them, then accuracy, then layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet.comparison.contenders import Accuracy
from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.detector import Detector
from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling.latency import Samples, measure
from edgedet_runtime.profiling.layers import LAYER_ENGINES, Layer, profile_layers
from edgedet_runtime.profiling.machine import LoadMeter
from edgedet_runtime.profiling.session import ProfileConfig, list_plans
from edgedet_runtime.profiling.statistics import Summary, summarize
from edgedet_runtime.steps import StepProgress, Steps

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet_runtime.labelled import LabelledSet

__all__ = ["Measured", "measure_models"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model under a plan, with all that was measured of it.

    Attributes:
        path: The model as given.
        plan: Engine, precision and threads.
        name: The network's variant.
        input_hw: Input rows and columns.
        file: The model file that ran.
        tensor: The input that the picture became, a copy.
        samples: Milliseconds of each run.
        latency: End to end, ms.
        accuracy: None without labelled pictures.
        layers: As executed; empty where they were not looked into.
    """

    path: Path
    plan: Plan
    name: str
    input_hw: tuple[int, int]
    file: Path
    tensor: npt.NDArray[Any]
    samples: Samples
    latency: Summary
    accuracy: Accuracy | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def ap(self) -> float:
        """COCO AP, 0 where there is none."""
        return 0.0 if self.accuracy is None else self.accuracy.ap or 0.0


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model and plan, before anything runs."""

    path: Path
    plan: Plan
    detector: Detector

    def measured(self, image_bgr: npt.NDArray[np.uint8], samples: Samples) -> Measured:
        """Return what is known once it was timed."""
        spec, file = self.detector.spec, self.detector.model_file.path
        tensor = self.detector.preprocess(image_bgr)[0].copy()
        latency = summarize(samples.end_to_end_ms)
        return Measured(self.path, self.plan, spec.variant, spec.input.size_hw, file, tensor, samples, latency)


def measure_models(
    models: Sequence[Path],
    config: ProfileConfig,
    image_bgr: npt.NDArray[np.uint8],
    *,
    dataset: LabelledSet | None,
    progress: StepProgress | None,
) -> tuple[tuple[Measured, ...], float | None]:
    """Measure each model under each of its plans.

    All are loaded before the first is timed, so that each round visits every model; accuracy comes while they are still
    loaded, layers when they are not.

    Args:
        models: Bundles or model files.
        config: Engines, precisions, threads, runs, and whether to look into the layers.
        image_bgr: uint8 (H, W, 3) picture for latency.
        dataset: Labelled pictures for accuracy.
        progress: Called with steps done, steps in all, and what comes next.

    Returns:
        Models outermost, in the order given; then engines, precisions and threads. And the CPUs that other processes
        kept busy while latency was measured; None where the system does not say.

    Raises:
        EdgedetError: A model cannot be loaded or run, or does not know the set's classes.
    """
    pairs = [(path, plan) for path in models for plan in list_plans(path, config)]
    steps = Steps(progress, 1 + len(pairs) * ((dataset is not None) + config.layers))
    steps.begin("loading")
    with ExitStack() as stack:
        loaded = []
        for path, plan in pairs:
            steps.say(f"loading {path.name}, {plan}")
            loaded.append(_Loaded(path, plan, stack.enter_context(Detector(path, plan=plan))))
            _check_classes(loaded[-1], dataset)
        measured, busy_cpus = _time(loaded, image_bgr, config.runs, steps)
        if dataset is not None:
            measured = [
                replace(one, accuracy=accuracy)
                for one, accuracy in zip(measured, _accuracies(loaded, dataset, steps), strict=True)
            ]
    if config.layers:
        measured = [replace(one, layers=_layers(one, steps)) for one in measured]
    return tuple(measured), busy_cpus


def _time(
    loaded: Sequence[_Loaded], image_bgr: npt.NDArray[np.uint8], runs: int, steps: Steps
) -> tuple[list[Measured], float | None]:
    """Time all, interleaved."""
    with LoadMeter() as load:
        samples = measure(
            {number: entry.detector for number, entry in enumerate(loaded)},
            image_bgr,
            runs=runs,
            on_round=lambda done, of: steps.say(f"latency, round {done} of {of}"),
        )
    return [entry.measured(image_bgr, samples[number]) for number, entry in enumerate(loaded)], load.busy_cpus


def _accuracies(loaded: Sequence[_Loaded], dataset: LabelledSet, steps: Steps) -> Iterator[Accuracy]:
    for entry in loaded:
        steps.begin(f"accuracy of {entry.path.name}, {entry.plan}")
        yield _accuracy(entry.detector, dataset)


def _layers(one: Measured, steps: Steps) -> tuple[Layer, ...]:
    """Look into the layers, where the engine has a profiler."""
    steps.begin(f"layers of {one.path.name}, {one.plan}")
    if one.plan.engine not in LAYER_ENGINES:
        return ()
    return profile_layers(one.plan.engine, one.file, one.tensor, threads=one.plan.threads)


def _check_classes(entry: _Loaded, dataset: LabelledSet | None) -> None:
    """Refuse a model that cannot be scored before anything is measured."""
    if dataset is None:
        return
    from edgedet_runtime.labelled import match_classes

    try:
        match_classes(dataset, entry.detector.spec.classes)
    except InputError as e:
        raise InputError(f"{entry.path}: {e}") from None


def _accuracy(detector: Detector, dataset: LabelledSet) -> Accuracy:
    from edgedet.evaluation import evaluate

    figures = evaluate(detector, dataset).figures
    best = figures.best
    if best is None:
        return Accuracy(figures.ap, figures.ap50)
    return Accuracy(figures.ap, figures.ap50, best.precision, best.recall, best.f1, best.threshold)
