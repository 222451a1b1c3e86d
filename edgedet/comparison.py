"""Several models side by side: size and cost, accuracy, and latency measured in one interleaved run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet_runtime.detector import Detector
from edgedet_runtime.errors import InputError
from edgedet_runtime.profiling.latency import measure
from edgedet_runtime.profiling.machine import LoadMeter, Machine, describe_machine
from edgedet_runtime.profiling.plans import Plan
from edgedet_runtime.profiling.session import ProfileConfig, choose_picture, list_plans
from edgedet_runtime.profiling.statistics import Summary, summarise

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet.evaluation import LabelledSet

__all__ = ["Comparison", "Contender", "Correlation", "compare_models"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One model under one plan.

    Attributes:
        model: Path as given.
        name: The network's variant.
        plan: Engine, precision and threads.
        input_hw: Input rows and columns.
        params: Parameters of the unfused network; None for a single file, which does not tell.
        gflops: 2 x multiply-accumulates of the unfused network, 1e9.
        memory_access_bytes: What its layers read and write.
        size_bytes: Model file with its weights.
        latency: End to end, ms.
        speed_up: FP32 median of the same engine and threads over this median; None for FP32 itself.
        ap: COCO AP, 0..1; None without data.
        ap50: COCO AP at IoU 0.5.
        ap_drop: FP32's AP minus this one, in points of 100.
        best: Whether nothing else here is both faster and more accurate (with data), or faster (without).
    """

    model: str
    name: str
    plan: Plan
    input_hw: tuple[int, int]
    params: int | None
    gflops: float | None
    memory_access_bytes: int | None
    size_bytes: int
    latency: Summary
    speed_up: float | None
    ap: float | None
    ap50: float | None
    ap_drop: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class Correlation:
    """How well GFLOPs tell latency, over the models of one plan.

    Attributes:
        plan: The plan.
        models: How many models.
        r: Pearson's correlation coefficient.
    """

    plan: Plan
    models: int
    r: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table, with what it was measured on."""

    machine: Machine
    other_load_cpus: float | None
    picture: str
    data: str | None
    contenders: tuple[Contender, ...]
    correlations: tuple[Correlation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model and plan with what is known before anything runs."""

    path: Path
    plan: Plan
    detector: Detector


def compare_models(
    models: Sequence[Path],
    config: ProfileConfig,
    *,
    dataset: LabelledSet | None = None,
    image_bgr: npt.NDArray[np.uint8] | None = None,
    progress: Callable[[int, int, str], object] | None = None,
) -> Comparison:
    """Measure models against each other.

    Args:
        models: Bundles or model files.
        config: Engines, precisions, threads and runs; cold starts and layers are `profile`'s.
        dataset: Labelled pictures for AP.
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
    machine = describe_machine()
    with ExitStack() as stack:
        loaded = [
            _Loaded(path, plan, stack.enter_context(_load(path, plan)))
            for path in models
            for plan in list_plans(path, config)
        ]
        steps = 1 + (len(loaded) if dataset is not None else 0)
        with LoadMeter() as load:
            samples = measure(
                {number: entry.detector for number, entry in enumerate(loaded)},
                image,
                runs=config.runs,
                on_round=lambda done, of: tell(0, steps, f"latency, round {done} of {of}"),
            )
        accuracy: list[tuple[float | None, float | None]] = []
        for number, entry in enumerate(loaded):
            tell(1 + number, steps, f"accuracy of {entry.path.name}, {entry.plan}")
            accuracy.append(_accuracy(entry.detector, dataset))
    latencies = [summarise(samples[number].end_to_end_ms) for number in range(len(loaded))]
    contenders = tuple(_contender(number, loaded, latencies, accuracy) for number in range(len(loaded)))
    return Comparison(
        machine=machine,
        other_load_cpus=load.busy_cpus,
        picture=picture,
        data=None if dataset is None else str(dataset.source),
        contenders=contenders,
        correlations=tuple(_correlations(contenders)),
    )


def _load(path: Path, plan: Plan) -> Detector:
    return Detector(path, engine=plan.engine, precision=plan.precision, threads=plan.threads)


def _accuracy(detector: Detector, dataset: LabelledSet | None) -> tuple[float | None, float | None]:
    if dataset is None:
        return None, None
    from edgedet.evaluation import evaluate

    figures = evaluate(detector, dataset).figures
    return figures.ap, figures.ap50


def _contender(
    number: int,
    loaded: Sequence[_Loaded],
    latencies: Sequence[Summary],
    accuracy: Sequence[tuple[float | None, float | None]],
) -> Contender:
    entry = loaded[number]
    latency, (ap, ap50) = latencies[number], accuracy[number]
    wish = Plan(entry.plan.engine, "fp32", entry.plan.threads)
    fp32 = next((i for i, o in enumerate(loaded) if o.path == entry.path and o.plan == wish and i != number), None)
    before = None if fp32 is None else accuracy[fp32][0]
    cost = _complexity(entry.path)
    file = entry.detector.model_file.path
    weights = file.with_suffix(".bin")
    return Contender(
        model=str(entry.path),
        name=entry.detector.spec.variant,
        plan=entry.plan,
        input_hw=entry.detector.spec.input.size_hw,
        params=cost.get("params"),
        gflops=cost.get("gflops"),
        memory_access_bytes=cost.get("memory_access_bytes"),
        size_bytes=file.stat().st_size + (weights.stat().st_size if file.suffix == ".xml" else 0),
        latency=latency,
        speed_up=None if fp32 is None else latencies[fp32].median / latency.median,
        ap=ap,
        ap50=ap50,
        ap_drop=None if before is None or ap is None else (before - ap) * 100,
        best=not any(
            other.median < latency.median and (accuracy[i][0] or 0.0) >= (ap or 0.0)
            for i, other in enumerate(latencies)
        ),
    )


def _complexity(path: Path) -> dict[str, Any]:
    """Return what a bundle's manifest says of the network's cost; empty for a single file or a foreign network."""
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return {}
    found = json.loads(manifest.read_text(encoding="utf-8")).get("complexity")
    return found if isinstance(found, dict) else {}


def _correlations(contenders: Sequence[Contender]) -> list[Correlation]:
    """Correlate GFLOPs with latency for each plan that three or more models share."""
    found = []
    for plan in dict.fromkeys(c.plan for c in contenders):
        points = [(c.gflops, c.latency.median) for c in contenders if c.plan == plan and c.gflops is not None]
        if len(points) >= 3 and len({g for g, _ in points}) > 1:
            gflops, ms = np.array(points, np.float64).T
            found.append(Correlation(plan, len(points), float(np.corrcoef(gflops, ms)[0, 1])))
    return found
