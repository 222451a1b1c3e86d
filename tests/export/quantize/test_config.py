"""Options at their edges, and the steps of the search that follow from them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedet_export.quantize import search
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.latency import Latencies
from edgedet_export.quantize.number_format import this_cpu
from edgedet_export.quantize.search import _Attempts, _choose, _finalists, float_fronts
from edgedet_export.quantize.trials import Recipe
from edgedet_runtime.errors import InputError

COUNTS = ("max_images", "judge_images", "mean_images", "probe_images", "latency_runs")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        *(({name: 1}, {name: 0}) for name in COUNTS),
        ({"max_drop": 0.0}, {"max_drop": -0.01}),
        ({"max_float": 0.0}, {"max_float": -0.01}),
        ({"max_float": 1.0}, {"max_float": 1.01}),
        ({"rules": ("mse",)}, {"rules": ()}),
    ],
    ids=str,
)
def test_edges(good: dict[str, Any], bad: dict[str, Any]) -> None:
    QuantConfig(**good)
    with pytest.raises(InputError, match="expected"):
        QuantConfig(**bad)


def bench(max_float: float = 0.5, within: int | None = None) -> Any:
    """Stand in for a Workbench of forty layers of one MAC each, whose trials keep the budget from `within` on."""

    def attempt(name: str, recipe: Recipe) -> Any:
        kept = len(recipe.keep)
        return SimpleNamespace(
            name=name, recipe=recipe, within=lambda _: within is not None and kept >= within, drop=1.0, plan=plan
        )

    plan = SimpleNamespace(kept=())
    layers = tuple(SimpleNamespace(id=f"layer{i}", macs=1) for i in range(40))
    target = SimpleNamespace(float_front=lambda layers: {layer.id: "front" for layer in layers[:2]})
    return SimpleNamespace(config=SimpleNamespace(max_float=max_float), layers=layers, target=target, attempt=attempt)


@pytest.mark.parametrize(
    ("max_float", "within", "counts"),
    [
        (1.0, None, [1, 2, 4, 8, 16, 32]),
        (1.0, 1, [1]),
        (1.0, 4, [1, 2, 4]),
        (1.0, 5, [1, 2, 4, 8]),
        (0.2, None, [1, 2, 4, 8]),
        (0.01, None, []),
    ],
)
def test_more_and_more_of_the_worst_layers_stay_in_float(
    max_float: float, within: int | None, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking = tuple(SimpleNamespace(layer=f"layer{39 - i}", macs=1, effect=1.0) for i in range(40))
    monkeypatch.setattr(search, "measure_sensitivity", lambda *_: ranking)
    work = bench(max_float, within)
    attempts = _Attempts(work, lambda _: None)
    base = work.attempt("all", Recipe("mse"))
    best = attempts.free_worst(base)
    assert [len(t.recipe.keep) for t in attempts.trials] == counts
    assert [t.name for t in attempts.trials] == [f"{n} most sensitive in float" for n in counts]
    assert best is (attempts.trials[-1] if within is not None else base)
    if counts:
        assert list(attempts.trials[0].recipe.keep) == ["layer39"]


@pytest.mark.parametrize(
    ("max_float", "keep", "fronts"),
    [
        (0.5, {}, [["layer0"], ["layer0", "layer1"]]),
        (1 / 40, {}, [["layer0"]]),
        (0.0, {}, []),
        (1 / 40, {"layer0": "kept"}, [["layer0", "layer1"]]),
        (0.5, {"layer0": "kept", "layer1": "kept"}, []),
    ],
)
def test_float_fronts_within_the_budget(max_float: float, keep: dict[str, str], fronts: list[list[str]]) -> None:
    found = float_fronts(bench(max_float), SimpleNamespace(kept=()), keep)  # type: ignore[arg-type]
    assert [list(front) for front in found] == fronts


def test_what_holds_unless_told_otherwise() -> None:
    """Half a point and 15 % of the MACs; effort for minutes, not hours."""
    assert QuantConfig() == QuantConfig(
        engine="onnxruntime", max_drop=0.5, max_float=0.15, cpu=None, rules=("mse", "percentile"), max_images=128,
        judge_images=48, mean_images=16, probe_images=3, threads=None, latency_runs=30,
    )  # fmt: skip
    assert QuantConfig(cpu="neon").cpu_kind == "neon"
    assert QuantConfig().cpu_kind == this_cpu()


def test_layers_that_do_not_fit_are_passed_over_for_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    macs = {"large": 30, "exact": 20, "late": 1}
    ranking = tuple(SimpleNamespace(layer=name, macs=size, effect=0.5) for name, size in macs.items())
    monkeypatch.setattr(search, "measure_sensitivity", lambda *_: ranking)
    work = bench(0.5)  # 20 MACs
    attempts = _Attempts(work, lambda _: None)
    attempts.free_worst(work.attempt("all", Recipe("mse", form="smoothed")))
    assert [dict(t.recipe.keep) for t in attempts.trials] == [
        {"exact": "sensitive: alone in INT8 it moves the detections by 0.500"}
    ]
    assert attempts.trials[0].name == "1 most sensitive in float, smoothed channels"
    assert attempts.trials[0].recipe.form == "smoothed"
    assert attempts.sensitivity == ranking


def test_what_a_plan_keeps_in_float_is_spent() -> None:
    plan = SimpleNamespace(kept=(SimpleNamespace(macs=19),))
    assert [list(f) for f in float_fronts(bench(0.5), plan, {})] == [["layer0"]]  # type: ignore[arg-type]


def test_float_fronts_are_tried_on_top_of_what_is_kept() -> None:
    work = bench(0.5)
    for keep, names in (
        ({}, ["first 1 in float", "first 2 in float"]),
        ({"layer7": "worst"}, ["first 1 in float, base", "first 2 in float, base"]),
        ({"layer0": "worst"}, ["first 1 in float"]),
    ):
        attempts = _Attempts(work, lambda _: None)
        attempts.free_front(work.attempt("base", Recipe("mse", keep=keep)))
        assert [t.name for t in attempts.trials] == names
        assert all(set(keep) <= set(t.recipe.keep) for t in attempts.trials)


def trial(name: str, drop: float, *layers: str) -> Any:
    plan = SimpleNamespace(grids={}, everywhere=frozenset(), layers=layers)
    return SimpleNamespace(name=name, drop=drop, plan=plan)


def test_four_finalists_of_as_many_structures() -> None:
    trials = [trial(str(i), drop, str(i)) for i, drop in enumerate([5, 3, 4, 1, 2])]
    twin = trial("twin", 1.5, "3")
    assert [t.name for t in _finalists([*trials, twin])] == ["3", "4", "1", "2"]


@pytest.mark.parametrize(("ms", "chosen"), [(9.6, "accurate"), (9.4, "fast")])
def test_the_fastest_wins_if_it_is_five_percent_faster(ms: float, chosen: str) -> None:
    accurate, fast = trial("accurate", 1.0), trial("fast", 2.0)
    latencies = Latencies({}, {"accurate": 1.0, "fast": 10 / ms}, {"accurate": (10.0,) * 8, "fast": (ms,) * 8})
    assert _choose([accurate, fast], latencies) is (accurate if chosen == "accurate" else fast)
    assert _choose([], latencies) is None
