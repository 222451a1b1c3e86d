"""The search for an INT8 file that is fast and within the budget, from cheap to expensive.

1. Everything that the engine can run in INT8, with each range rule; the best of them with its channels brought to like
   ranges, where the network and the engine allow that at no cost in time (see `equalize`); with float residuals, where
   the target offers them.
2. If that loses too much: the layers are ranked by what INT8 does to them alone, and the worst stay in float, one, two,
   four … of them, as long as the share of float MACs allows.
3. If that still loses too much: both again with multiplications behind activations, where they take time.
4. The first layers in float as well, the stem alone and with the layer behind it, where the engine may run them faster
   so (see `Target.float_front`).

Of what keeps the budget the most accurate wins, unless the fastest is clearly faster: by 5 % and in most rounds of an
interleaved measurement, with FP32 in it. Candidates that differ in their numbers only are equally fast, so only the
most accurate of them is timed: noise decides nothing, and the same pictures give the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgedet_export.quantize.latency import Latencies, measure_latencies
from edgedet_export.quantize.layers import total_macs
from edgedet_export.quantize.measure import Progress
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.sensitivity import measure_sensitivity
from edgedet_export.quantize.trials import Recipe, Trial, Workbench
from edgedet_runtime.bundle.quantization import LayerFacts

__all__ = ["SearchResult", "float_fronts", "search"]

_FP32 = "fp32"
_FINALISTS = 4
_SAME_SPEED = 0.05
_COUNTS = (1, 2, 4, 8, 16, 32)


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
    sensitivity: tuple[LayerFacts, ...]


def search(bench: Workbench, progress: Progress) -> SearchResult:
    """Try, judge, measure and choose."""
    attempts = _Attempts(bench, progress)
    everything = attempts.all_layers()
    base = attempts.free_worst(everything)
    for form in bench.target.costly_forms:
        if not base.within(bench.config) and bench.offers(form):
            name = f"all layers, {everything.recipe.rule}, {form} channels"
            costly = attempts.attempt(name, replace(everything.recipe, form=form))
            base = attempts.free_worst(costly) if costly.drop < everything.drop else base
    if base.within(bench.config):
        attempts.free_front(base)
    finalists = _finalists([t for t in attempts.trials if t.within(bench.config)])
    latencies = _time(bench, finalists or [min(attempts.trials, key=_drop)], progress)
    return SearchResult(tuple(attempts.trials), latencies, _choose(finalists, latencies), attempts.sensitivity)


class _Attempts:
    """The candidates that were tried, and the steps that try more of them."""

    def __init__(self, bench: Workbench, progress: Progress) -> None:
        self._bench = bench
        self._progress = progress
        self.trials: list[Trial] = []
        self.sensitivity: tuple[LayerFacts, ...] = ()

    def attempt(self, name: str, recipe: Recipe) -> Trial:
        """Build and judge a candidate."""
        self._progress(f"trying {name}")
        self.trials.append(self._bench.attempt(name, recipe))
        return self.trials[-1]

    def all_layers(self) -> Trial:
        """Try all layers in INT8, in each way that costs no time; return the most accurate."""
        target = self._bench.target
        for rule in self._bench.config.rules:
            self.attempt(f"all layers, {rule}", Recipe(rule))
        base = min(self.trials, key=_drop)
        form = next((form for form in target.free_forms if self._bench.offers(form)), None)
        if form is not None:
            self.attempt(f"{base.name}, {form} channels", replace(base.recipe, form=form))
            base = min(self.trials, key=_drop)
        if target.float_residuals:
            self.attempt(f"{base.name}, float residuals", replace(base.recipe, float_residuals=True))
        return min(self.trials, key=_drop)

    def free_worst(self, base: Trial) -> Trial:
        """Leave the most sensitive layers in float, more and more of them, until the budget is kept.

        Returns:
            The first trial that keeps it, or `base`.
        """
        if base.within(self._bench.config):
            return base
        self.sensitivity = measure_sensitivity(self._bench, base.recipe, self._progress)
        suffix = "" if base.recipe.form == "plain" else f", {base.recipe.form} channels"
        for count in _COUNTS:
            keep = _most_sensitive(self._bench, self.sensitivity, base, count)
            if len(keep) < count:
                break
            trial = self.attempt(f"{count} most sensitive in float{suffix}", replace(base.recipe, keep=keep))
            if trial.within(self._bench.config):
                return trial
        return base

    def free_front(self, base: Trial) -> None:
        """Leave the first layers in float, where that may be faster."""
        for number, front in enumerate(float_fronts(self._bench, base.plan, base.recipe.keep), 1):
            suffix = "" if base.recipe.keep.keys() <= front.keys() else f", {base.name}"
            keep = {**base.recipe.keep, **front}
            self.attempt(f"first {number} in float{suffix}", replace(base.recipe, keep=keep))


def float_fronts(bench: Workbench, plan: QuantPlan, keep: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the target's float front, one layer more each time, as the budget of float MACs allows.

    Args:
        bench: Of the model and target.
        plan: What stays in float so far.
        keep: Layers that were kept in float on purpose.
    """
    macs = {layer.id: layer.macs for layer in bench.layers}
    budget = _float_budget(bench, plan)
    fronts: list[dict[str, str]] = []
    front: dict[str, str] = {}
    for layer, reason in bench.target.float_front(bench.layers).items():
        if layer not in keep:
            budget -= macs[layer]
        if budget < 0:
            break
        front = {**front, layer: reason}
        if not front.keys() <= keep.keys():
            fronts.append(front)
    return fronts


def _float_budget(bench: Workbench, plan: QuantPlan) -> float:
    """Return the MACs that may stay in float beyond those that a plan leaves there."""
    return bench.config.max_float * total_macs(bench.layers) - sum(k.macs for k in plan.kept)


def _most_sensitive(bench: Workbench, ranking: tuple[LayerFacts, ...], base: Trial, count: int) -> dict[str, str]:
    """Return the `count` most sensitive layers that together fit into the budget of float MACs."""
    budget = _float_budget(bench, base.plan)
    kept: dict[str, str] = {}
    for item in ranking:
        if len(kept) == count:
            break
        if item.macs <= budget:
            budget -= item.macs
            kept[item.layer] = f"sensitive: alone in INT8 it moves the detections by {item.effect:.3f}"
    return kept


def _drop(trial: Trial) -> float:
    return trial.drop


def _finalists(trials: Sequence[Trial]) -> list[Trial]:
    """Return the most accurate trials, best first, one of each structure."""
    best: dict[object, Trial] = {}
    for trial in sorted(trials, key=_drop):
        plan = trial.plan
        best.setdefault((frozenset(plan.grids), plan.everywhere, plan.layers), trial)
    return list(best.values())[:_FINALISTS]


def _time(bench: Workbench, trials: Sequence[Trial], progress: Progress) -> Latencies:
    """Measure trials beside FP32."""
    progress("measuring latency")
    runners = {_FP32: bench.runner}
    runners |= {trial.name: bench.target.open_session(trial.model, threads=bench.threads) for trial in trials}
    return measure_latencies(runners, bench.tensors[:4], bench.config.latency_runs)


def _choose(finalists: Sequence[Trial], latencies: Latencies) -> Trial | None:
    """Return the most accurate of the trials that are about as fast as the fastest; None of none."""
    if not finalists:
        return None
    fastest = max(finalists, key=lambda t: latencies.speedup[t.name])
    near = [t for t in finalists if not latencies.clearly_faster(fastest.name, t.name, by=_SAME_SPEED)]
    return min(near, key=_drop)
