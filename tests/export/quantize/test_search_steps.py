"""The search, step by step: what is tried after what, on a stand-in whose losses are given."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edgedet_export.quantize import search as search_module
from edgedet_export.quantize.latency import Latencies
from edgedet_export.quantize.search import SearchResult, search
from edgedet_export.quantize.trials import Recipe

LAYERS = tuple(SimpleNamespace(id=name, macs=1) for name in "abcdefgh")


def run(
    drop: Callable[[Recipe], float],
    monkeypatch: pytest.MonkeyPatch,
    *,
    offered: tuple[str, ...] = (),
    free: tuple[str, ...] = (),
    costly: tuple[str, ...] = (),
    residuals: bool = False,
    front: tuple[str, ...] = (),
    max_float: float = 0.0,
) -> tuple[SearchResult, list[str]]:
    """Search with a budget of one point."""

    def attempt(name: str, recipe: Recipe) -> Any:
        plan = SimpleNamespace(
            kept=[la for la in LAYERS if la.id in recipe.keep], grids={}, everywhere=frozenset(), layers=name
        )
        lost = drop(recipe)
        return SimpleNamespace(
            name=name,
            recipe=recipe,
            plan=plan,
            drop=lost,
            model=None,
            within=lambda c: lost <= 1 and len(plan.kept) / 8 <= max_float,
        )

    target = SimpleNamespace(
        free_forms=free, costly_forms=costly, float_residuals=residuals,
        float_front=lambda layers: dict.fromkeys(front, "front"), open_session=lambda model, threads: model,
    )  # fmt: skip
    bench: Any = SimpleNamespace(
        config=SimpleNamespace(rules=("mse", "percentile"), max_float=max_float, latency_runs=3), target=target,
        layers=LAYERS, attempt=attempt, offers=lambda form: form in offered, runner=None, threads=1, tensors=[0] * 9,
    )  # fmt: skip
    ranking = tuple(SimpleNamespace(layer=la.id, macs=1, effect=1.0) for la in LAYERS)
    monkeypatch.setattr(search_module, "measure_sensitivity", lambda *_: ranking)

    def measured(runners: Any, tensors: Any, runs: int) -> Latencies:
        assert (len(tensors), runs) == (4, 3)
        return Latencies({}, dict.fromkeys(runners, 1.0), dict.fromkeys(runners, (1.0, 1.0)))

    monkeypatch.setattr(search_module, "measure_latencies", measured)
    said: list[str] = []
    result = search(bench, said.append)
    assert [s.removeprefix("trying ") for s in said if s.startswith("trying ")] == [t.name for t in result.trials]
    return result, [t.name for t in result.trials]


def test_the_better_rule_is_built_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    for better in ("mse", "percentile"):
        result, names = run(
            lambda r, better=better: 0.2 + 0.3 * (r.rule != better) - 0.1 * (r.form != "plain"),  # type: ignore[misc]
            monkeypatch, free=("smoothed", "equalized"), offered=("equalized",), residuals=True,
        )  # fmt: skip
        assert names == [
            "all layers, mse", "all layers, percentile", f"all layers, {better}, equalized channels",
            f"all layers, {better}, equalized channels, float residuals",
        ]  # fmt: skip
        assert result.best is result.trials[2], "of equals the first"
        assert result.sensitivity == ()


def test_a_form_that_loses_more_is_not_built_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    result, names = run(
        lambda r: 0.2 + 0.1 * (r.form != "plain") + 0.1 * (r.rule != "mse"),
        monkeypatch, free=("equalized",), offered=("equalized",), residuals=True,
    )  # fmt: skip
    assert names[-1] == "all layers, mse, float residuals"
    assert result.best is result.trials[0]
    assert result.trials[-1].recipe.form == "plain"


def test_the_worst_layers_stay_in_float_and_then_comes_what_costs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(recipe: Recipe) -> float:
        return 3.0 - 0.5 * len(recipe.keep) - 0.8 * (recipe.form == "smoothed")

    _, names = run(drop, monkeypatch, max_float=0.5)
    assert names[2:] == ["1 most sensitive in float", "2 most sensitive in float", "4 most sensitive in float"]
    result, names = run(drop, monkeypatch, max_float=0.25, costly=("smoothed",), offered=("smoothed",))
    assert names[2:] == [
        "1 most sensitive in float", "2 most sensitive in float", "all layers, mse, smoothed channels",
        "1 most sensitive in float, smoothed channels", "2 most sensitive in float, smoothed channels",
    ]  # fmt: skip
    assert result.best is None
    assert set(result.latencies.speedup) == {"fp32", "2 most sensitive in float, smoothed channels"}, "the nearest"
    assert len(result.sensitivity) == 8
    _, names = run(drop, monkeypatch, max_float=0.25, costly=("smoothed",))
    assert len(names) == 4, "it is not offered"
    _, names = run(
        lambda r: 3.0 + (r.form == "smoothed"), monkeypatch, max_float=0.25, costly=("smoothed",), offered=("smoothed",)
    )
    assert names[-1] == "all layers, mse, smoothed channels", "it loses more"
    _, names = run(lambda r: 3.0, monkeypatch, max_float=0.25, costly=("smoothed",), offered=("smoothed",))
    assert names[-1] == "all layers, mse, smoothed channels", "it loses as much"


def test_the_front_is_freed_only_where_the_budget_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _, names = run(lambda r: 0.5, monkeypatch, max_float=0.25, front=("a", "b"))
    assert names[2:] == ["first 1 in float", "first 2 in float"]
    _, names = run(lambda r: 9.0, monkeypatch, max_float=0.25, front=("a", "b"))
    assert not any(name.startswith("first") for name in names)
