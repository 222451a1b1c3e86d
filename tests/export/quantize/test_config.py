"""Options at their edges, and the steps of the search that follow from them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedet_export.quantize import search
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.search import _Attempts, float_fronts
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
