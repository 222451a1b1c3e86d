"""The search for an INT8 file that is fast and within the budget, from cheap to expensive.

1. Everything that the engine can run in INT8, with each range rule; the best of them with its channels brought to like
   ranges, where the network allows that at no cost in time (see `equalise`); for OpenVINO also with float residuals.
2. If that loses too much: the layers are ranked by what INT8 does to them alone, and the worst stay in float, one, two,
   four … of them, as long as the share of float MACs allows.
3. If that still loses too much: for onnxruntime, both again with multiplications behind activations, which take time
   there.
4. For onnxruntime, where the stem cannot be computed on cells (see `stem_to_depth`), the first layers in float as
   well, the stem alone and with the layer behind it: with three or four input channels its INT8 kernel is slower than
   the float one (measured on YOLOv5n, 640 px: 7.4 ms against 3.0 ms), and on large maps SiLU on bytes costs what the
   convolution gains.

Of what keeps the budget the most accurate wins, unless the fastest is clearly faster: by 5 % and in most rounds of an
interleaved measurement, with FP32 in it. Candidates that differ in their numbers only are equally fast, so only the
most accurate of them is timed: noise decides nothing, and the same pictures give the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from edgedet_export.quantize.config import QuantEngine
from edgedet_export.quantize.layers import total_macs
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.runner import Latencies, make_runner, measure_latencies
from edgedet_export.quantize.sensitivity import LayerSensitivity, Outputs, rank_layers
from edgedet_export.quantize.trials import Recipe, Trial, Workbench
from edgedet_export.quantize.variant import Form

__all__ = ["SearchResult", "float_fronts", "measure_sensitivity", "search"]

Progress = Callable[[str], object]

_FP32 = "fp32"
_STEM_CHANNELS = 4
_FINALISTS = 4
_SAME_SPEED = 0.05
_COUNTS = (1, 2, 4, 8, 16, 32)
_FREE_FORMS: dict[QuantEngine, tuple[Form, ...]] = {
    "onnxruntime": ("equalised",),
    "openvino": ("smoothed", "equalised"),
}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the search found.

    Attributes:
        trials: All candidates, in the order of trying.
        latencies: Of the finalists by name, and ``fp32``.
        best: The trial to write; None if none keeps the budget.
        sensitivity: Of the layers, most sensitive first; empty if it was not needed.
    """

    trials: tuple[Trial, ...]
    latencies: Latencies
    best: Trial | None
    sensitivity: tuple[LayerSensitivity, ...]


def search(bench: Workbench, progress: Progress) -> SearchResult:
    """Try, judge, measure and choose."""
    config = bench.config
    trials: list[Trial] = []

    def attempt(name: str, recipe: Recipe) -> Trial:
        progress(f"trying {name}")
        trials.append(bench.attempt(name, recipe))
        return trials[-1]

    for rule in config.rules:
        attempt(f"all layers, {rule}", Recipe(rule))
    base = min(trials, key=_drop)
    form = next((form for form in _FREE_FORMS[config.engine] if bench.offers(form)), None)
    if form is not None:
        attempt(f"{base.name}, {form} channels", replace(base.recipe, form=form))
        base = min(trials, key=_drop)
    if config.engine == "openvino":
        attempt(f"{base.name}, float residuals", replace(base.recipe, tight=True))
        base = min(trials, key=_drop)
    everything = base
    base, sensitivity = _free_worst(bench, base, attempt, progress)
    if not base.within(config) and config.engine == "onnxruntime" and bench.offers("smoothed"):
        name = f"all layers, {everything.recipe.rule}, smoothed channels"
        smoothed = attempt(name, replace(everything.recipe, form="smoothed"))
        if smoothed.drop < everything.drop:
            base, sensitivity = _free_worst(bench, smoothed, attempt, progress)
    if base.within(config):
        for number, keep in enumerate(float_fronts(bench, base.plan, base.recipe.keep), 1):
            suffix = "" if base.recipe.keep.keys() <= keep.keys() else f", {base.name}"
            attempt(f"first {number} in float{suffix}", replace(base.recipe, keep={**base.recipe.keep, **keep}))
    finalists = _finalists([t for t in trials if t.within(config)])
    shown = finalists or [min(trials, key=_drop)]
    progress("measuring latency")
    runners = {_FP32: bench.runner}
    runners.update({t.name: make_runner(t.model, config.engine, threads=bench.threads) for t in shown})
    latencies = measure_latencies(runners, bench.tensors[:4], config.latency_runs)
    return SearchResult(tuple(trials), latencies, _choose(finalists, latencies), sensitivity)


def _free_worst(
    bench: Workbench, base: Trial, attempt: Callable[[str, Recipe], Trial], progress: Progress
) -> tuple[Trial, tuple[LayerSensitivity, ...]]:
    """Leave the most sensitive layers in float, more and more of them, until the budget is kept.

    Returns:
        The first trial that keeps it, or `base`; and the ranking, empty where `base` keeps it already.
    """
    if base.within(bench.config):
        return base, ()
    ranking = measure_sensitivity(bench, base.recipe, progress)
    suffix = ", smoothed channels" if base.recipe.form == "smoothed" else ""
    for count in _COUNTS:
        keep = _most_sensitive(bench, ranking, base, count)
        if len(keep) < count:
            break
        trial = attempt(f"{count} most sensitive in float{suffix}", replace(base.recipe, keep=keep))
        if trial.within(bench.config):
            return trial, ranking
    return base, ranking


def _drop(trial: Trial) -> float:
    return trial.drop


def _finalists(trials: Sequence[Trial]) -> list[Trial]:
    """Return the most accurate trials, best first, one of each structure."""
    best: dict[object, Trial] = {}
    for trial in sorted(trials, key=_drop):
        plan = trial.plan
        best.setdefault((frozenset(plan.grids), plan.everywhere, plan.layers), trial)
    return list(best.values())[:_FINALISTS]


def _choose(finalists: Sequence[Trial], latencies: Latencies) -> Trial | None:
    """Return the most accurate of those than which the fastest is not clearly faster."""
    if not finalists:
        return None
    fastest = max(finalists, key=lambda t: latencies.speedup[t.name])
    near = [t for t in finalists if not latencies.clearly_faster(fastest.name, t.name, by=_SAME_SPEED)]
    return min(near, key=_drop)


def measure_sensitivity(bench: Workbench, recipe: Recipe, progress: Progress) -> tuple[LayerSensitivity, ...]:
    """Quantise each layer of a recipe alone and rank them by the harm."""
    plan, of = bench.plan(recipe), bench.variant(recipe.form)
    tensors = bench.tensors[: bench.config.probe_images]
    fp32 = make_runner(bench.model, "onnxruntime", threads=bench.threads)
    reference = [fp32(t) for t in tensors]
    wanted = set(plan.layers)
    layers = [layer for layer in of.layers if layer.id in wanted]
    everything = {layer.id: "not the layer under test" for layer in bench.layers}

    def build(layer: str) -> onnx.ModelProto:
        others = {name: reason for name, reason in everything.items() if name != layer}
        return bench.build(bench.plan(replace(recipe, keep=others)), recipe.form)

    def run(model: onnx.ModelProto) -> Sequence[Outputs]:
        runner = make_runner(model, "onnxruntime", threads=bench.threads)
        return [runner(t) for t in tensors]

    return rank_layers(
        build,
        run,
        reference,
        bench.spec,
        [(layer.id, layer.macs, layer.data) for layer in layers],
        plan.grids,
        of.statistics,
        lambda done, total: progress(f"measuring single layers, {done} of {total}"),
    )


def float_fronts(bench: Workbench, plan: QuantPlan, keep: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the first one and two layers, where onnxruntime may be faster with them in float, as the budget allows.

    Args:
        bench: Of the model and engine.
        plan: What stays in float so far.
        keep: Layers that were kept in float on purpose.
    """
    stem = bench.layers[0]
    if bench.config.engine != "onnxruntime" or stem.groups > 1 or stem.weight_shape[1] > _STEM_CHANNELS:
        return []
    budget = bench.config.max_float * total_macs(bench.layers) - sum(k.macs for k in plan.kept)
    fronts: list[dict[str, str]] = []
    front: dict[str, str] = {}
    for layer in bench.layers[:2]:
        if layer.id not in keep:
            budget -= layer.macs
        if budget < 0:
            break
        front = {**front, layer.id: "large map with few channels: onnxruntime's float kernels are faster"}
        if not front.keys() <= keep.keys():
            fronts.append(front)
    return fronts


def _most_sensitive(bench: Workbench, ranking: tuple[LayerSensitivity, ...], base: Trial, count: int) -> dict[str, str]:
    """Return the `count` most sensitive layers that together fit into the budget of float MACs."""
    budget = bench.config.max_float * total_macs(bench.layers) - sum(k.macs for k in base.plan.kept)
    kept: dict[str, str] = {}
    for item in ranking:
        if len(kept) == count:
            break
        if item.macs <= budget:
            budget -= item.macs
            kept[item.layer] = f"sensitive: alone in INT8 it moves the detections by {item.effect:.3f}"
    return kept
