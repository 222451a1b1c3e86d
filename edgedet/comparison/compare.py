"""Several models side by side: size and cost, accuracy, and latency measured in one interleaved run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedet.comparison.contenders import Comparison, Contender
from edgedet.comparison.correlation import COSTS, Correlation, correlate
from edgedet.comparison.measured import Measured, measure_models
from edgedet_runtime.bundle.manifest import Manifest, read_manifest
from edgedet_runtime.bundle.model_files import model_bytes
from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.errors import ArgumentError
from edgedet_runtime.profiling.machine import describe_machine
from edgedet_runtime.profiling.session import ProfileConfig, choose_picture
from edgedet_runtime.profiling.statistics import Interval, ratio_of_medians, summarize
from edgedet_runtime.profiling.turns import BLOCK
from edgedet_runtime.steps import StepProgress

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet_runtime.labelled import LabelledSet

__all__ = ["compare_models"]


def compare_models(
    models: Sequence[Path],
    config: ProfileConfig,
    *,
    dataset: LabelledSet | None = None,
    image_bgr: npt.NDArray[np.uint8] | None = None,
    progress: StepProgress | None = None,
) -> Comparison:
    """Measure models against each other.

    Args:
        models: Bundles or model files; the first is what the others are compared with.
        config: Engines, precisions, threads, runs, and whether to look into the layers; cold starts are `profile`'s.
        dataset: Labelled pictures for accuracy.
        image_bgr: uint8 (H, W, 3) picture for latency; None takes the first bundle's golden picture.
        progress: Called with steps done, steps in all, and what comes next.

    Raises:
        ArgumentError: No model, or the same one twice.
        EdgedetError: A model cannot be loaded or run.
    """
    if not models or len(set(models)) != len(models):
        raise ArgumentError("models", f"expected one or more, each once, got {', '.join(map(str, models)) or 'none'}")
    image, picture = choose_picture(models[0], image_bgr)
    machine = describe_machine()
    measured, busy_cpus = measure_models(models, config, image, dataset=dataset, progress=progress)
    contenders = tuple(_contender(entry, measured) for entry in measured)
    return Comparison(
        machine=machine,
        other_load_cpus=busy_cpus,
        picture=picture,
        data=None if dataset is None else str(dataset.source),
        contenders=contenders,
        correlations=tuple(_correlations(contenders)),
    )


def _contender(entry: Measured, everything: Sequence[Measured]) -> Contender:
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
        infer_ms=summarize(entry.samples.infer_ms).median,
        speed_up=None if fp32 is None else fp32.latency.median / entry.latency.median,
        ratio_to_first=None if is_first else _ratio(entry, first),
        accuracy=own,
        ap_drop=drop,
        best=not any(o.latency.median < entry.latency.median and o.ap >= entry.ap for o in everything),
        layers=entry.layers,
    )


def _ratio(entry: Measured, first: Measured) -> Interval:
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
