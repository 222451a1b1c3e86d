"""Several models side by side: size and cost, accuracy, and latency measured in one interleaved run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet.comparison.correlation import COSTS, Correlation, correlate
from edgedet_runtime.bundle.manifest import Manifest, read_manifest
from edgedet_runtime.bundle.model_files import model_bytes
from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.detector import Detector
from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling.latency import BLOCK, Samples, measure
from edgedet_runtime.profiling.layers import LAYER_ENGINES, Layer, profile_layers
from edgedet_runtime.profiling.machine import LoadMeter, Machine, describe_machine
from edgedet_runtime.profiling.session import ProfileConfig, choose_picture, list_plans
from edgedet_runtime.profiling.statistics import Interval, Summary, ratio_of_medians, summarise

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet_runtime.labelled import LabelledSet

__all__ = ["Accuracy", "Comparison", "Contender", "compare_models", "display_names"]


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


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model and plan, before anything runs."""

    path: Path
    plan: Plan
    detector: Detector


@dataclass(frozen=True, slots=True)
class _Measured:
    """A model and plan with all that was measured of it."""

    path: Path
    plan: Plan
    name: str
    input_hw: tuple[int, int]
    file: Path
    samples: Samples
    latency: Summary
    accuracy: Accuracy | None
    layers: tuple[Layer, ...]

    @property
    def ap(self) -> float:
        """COCO AP, 0 where there is none."""
        return 0.0 if self.accuracy is None else self.accuracy.ap or 0.0


def compare_models(
    models: Sequence[Path],
    config: ProfileConfig,
    *,
    dataset: LabelledSet | None = None,
    image_bgr: npt.NDArray[np.uint8] | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> Comparison:
    """Measure models against each other.

    All are loaded before the first is timed, so that each round visits every model; accuracy and layers come after.

    Args:
        models: Bundles or model files; the first is what the others are compared with.
        config: Engines, precisions, threads, runs, and whether to look into the layers; cold starts are `profile`'s.
        dataset: Labelled pictures for accuracy.
        image_bgr: uint8 (H, W, 3) picture for latency; None takes the first bundle's golden picture.
        progress: Called with steps done, steps in all, and what comes next.

    Raises:
        InputError: No model, or the same one twice.
        EdgedetError: A model cannot be loaded or run.
    """
    if not models or len(set(models)) != len(models):
        raise InputError(f"models: expected one or more, each once, got {', '.join(map(str, models)) or 'none'}")
    tell = progress or (lambda _done, _of, _what: None)
    image, picture = choose_picture(models[0], image_bgr)
    pairs = [(path, plan) for path in models for plan in list_plans(path, config)]
    steps = 1 + len(pairs) * ((dataset is not None) + config.layers)
    machine = describe_machine()
    with ExitStack() as stack:
        loaded = []
        for path, plan in pairs:
            tell(0, steps, f"loading {path.name}, {plan}")
            loaded.append(_Loaded(path, plan, stack.enter_context(Detector(path, plan=plan))))
            _check_classes(loaded[-1], dataset)
        with LoadMeter() as load:
            samples = measure(
                {number: entry.detector for number, entry in enumerate(loaded)},
                image,
                runs=config.runs,
                on_round=lambda done, of: tell(0, steps, f"latency, round {done} of {of}"),
            )
        done = 1
        accuracy: list[Accuracy | None] = [None] * len(loaded)
        tensors = [entry.detector.preprocess(image)[0].copy() for entry in loaded]
        for number, entry in enumerate(loaded if dataset is not None else ()):
            tell(done, steps, f"accuracy of {entry.path.name}, {entry.plan}")
            accuracy[number], done = _accuracy(entry.detector, dataset), done + 1
        facts = [(e.detector.spec.variant, e.detector.spec.input.size_hw, e.detector.model_file.path) for e in loaded]
    measured = []
    for number, (path, plan) in enumerate(pairs):
        layers: tuple[Layer, ...] = ()
        if config.layers and plan.engine in LAYER_ENGINES:
            tell(done, steps, f"layers of {path.name}, {plan}")
            layers = profile_layers(plan.engine, facts[number][2], tensors[number], threads=plan.threads)
        done += config.layers
        latency = summarise(samples[number].end_to_end_ms)
        measured.append(
            _Measured(path, plan, *facts[number], samples[number], latency, accuracy[number], layers),
        )
    contenders = tuple(_contender(entry, measured) for entry in measured)
    return Comparison(
        machine=machine,
        other_load_cpus=load.busy_cpus,
        picture=picture,
        data=None if dataset is None else str(dataset.source),
        contenders=contenders,
        correlations=tuple(_correlations(contenders)),
    )


def display_names(models: Sequence[str]) -> dict[str, str]:
    """Return the name to show for each path: its last part, or all of it where two end alike."""
    last = {model: Path(model).name for model in dict.fromkeys(models)}
    names = list(last.values())
    return {model: name if names.count(name) == 1 else model for model, name in last.items()}


def _check_classes(entry: _Loaded, dataset: LabelledSet | None) -> None:
    """Refuse a model that cannot be scored before anything is measured."""
    if dataset is None:
        return
    from edgedet_runtime.labelled import match_classes

    try:
        match_classes(dataset, entry.detector.spec.classes)
    except InputError as e:
        raise InputError(f"{entry.path}: {e}") from None


def _accuracy(detector: Detector, dataset: LabelledSet | None) -> Accuracy | None:
    if dataset is None:
        return None
    from edgedet.evaluation import evaluate

    figures = evaluate(detector, dataset).figures
    best = figures.best
    if best is None:
        return Accuracy(figures.ap, figures.ap50)
    return Accuracy(figures.ap, figures.ap50, best.precision, best.recall, best.f1, best.threshold)


def _contender(entry: _Measured, everything: Sequence[_Measured]) -> Contender:
    wish = Plan(entry.plan.engine, "fp32", entry.plan.threads)
    fp32 = next((o for o in everything if o.path == entry.path and o.plan == wish and o is not entry), None)
    first = next(o for o in everything if o.plan == entry.plan)
    manifest = _manifest(entry.path)
    cost = None if manifest is None else manifest.complexity
    own, of_fp32 = entry.accuracy, None if fp32 is None else fp32.accuracy
    drop = None
    if own is not None and of_fp32 is not None and own.ap is not None and of_fp32.ap is not None:
        drop = (of_fp32.ap - own.ap) * 100
    is_first = first is entry or first.path != everything[0].path
    return Contender(
        model=str(entry.path),
        name=entry.name,
        plan=entry.plan,
        input_hw=entry.input_hw,
        trained=None if manifest is None else manifest.trained,
        params=None if cost is None else cost.params,
        gflops=None if cost is None else cost.gflops,
        memory_access_bytes=None if cost is None else cost.memory_access_bytes,
        size_bytes=model_bytes(entry.file),
        latency=entry.latency,
        infer_ms=summarise(entry.samples.infer_ms).median,
        speed_up=None if fp32 is None else fp32.latency.median / entry.latency.median,
        ratio_to_first=None if is_first else _ratio(entry, first),
        accuracy=own,
        ap_drop=drop,
        best=not any(o.latency.median < entry.latency.median and o.ap >= entry.ap for o in everything),
        layers=entry.layers,
    )


def _ratio(entry: _Measured, first: _Measured) -> Interval:
    return ratio_of_medians(entry.samples.end_to_end_ms, first.samples.end_to_end_ms, block=BLOCK)


def _manifest(path: Path) -> Manifest | None:
    """Return a bundle's manifest; None for a single file."""
    return read_manifest(path) if path.is_dir() else None


def _correlations(contenders: Sequence[Contender]) -> list[Correlation]:
    """Correlate each cost with latency, plan by plan."""
    found = []
    for plan in dict.fromkeys(c.plan for c in contenders):
        for cost in COSTS:
            of = [(getattr(c, cost), c.latency.median) for c in contenders if c.plan == plan]
            one = correlate(plan, cost, [(x, y) for x, y in of if x is not None])
            found += [one] if one is not None else []
    return found
