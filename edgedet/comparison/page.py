"""A comparison as one HTML page that needs nothing else; a section stands only where there is data for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from edgedet.comparison import plots
from edgedet.comparison.contenders import Comparison, display_names
from edgedet.comparison.samples import ModelSamples
from edgedet.comparison.table import Setup, accuracy_table, cost_table, setup_names
from edgedet.comparison.training_log import Curve
from edgedet.html import page
from edgedet.html.slowest_layers import SlowestLayers, slowest_layers

__all__ = ["render_page", "write_page"]

_SLOWEST = 15
_COSTS: Mapping[str, tuple[str, str, plots.Value]] = {
    "gflops": ("GFLOPs against latency", "GFLOPs", attrgetter("gflops")),
    "memory_access_bytes": (
        "Memory access against latency",
        "memory access, MB",
        lambda e: None if e.memory_access_bytes is None else e.memory_access_bytes / 1e6,
    ),
}


@dataclass(frozen=True, slots=True)
class _Panel:
    caption: str
    svg: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    panels: Sequence[_Panel]
    note: str = ""


def write_page(
    comparison: Comparison, target: Path, *, samples: Sequence[ModelSamples] = (), curves: Sequence[Curve] = ()
) -> None:
    """Write the page; see `render_page`.

    Raises:
        InputError: The file cannot be written.
    """
    page.write(render_page(comparison, samples=samples, curves=curves), target)


def render_page(comparison: Comparison, *, samples: Sequence[ModelSamples] = (), curves: Sequence[Curve] = ()) -> str:
    """Return the page's HTML; every name that comes from a file is escaped.

    Args:
        comparison: What was measured.
        samples: Pictures with what the models find in them.
        curves: Of the training runs.
    """
    names = display_names(list(dict.fromkeys(entry.model for entry in comparison.contenders)))
    sections = [*_sections(comparison, plots.short_names(names)), *_training(curves)]
    values = {
        "c": comparison,
        "title_text": f"{len(names)} model{'s' if len(names) > 1 else ''} compared",
        "names": names,
        "untrained": comparison.untrained(),
        "cost": cost_table(comparison),
        "accuracy": accuracy_table(comparison),
        "sections": sections,
        "layered": [(name, _layered(comparison, model)) for model, name in names.items()],
        "has_layers": any(entry.layers for entry in comparison.contenders),
        "threads": sorted({entry.plan.threads for entry in comparison.contenders}),
        "samples": samples,
        "load": page.number(comparison.other_load_cpus, 2),
        "packages": ", ".join(f"{k} {v}" for k, v in comparison.machine.packages.items()),
    }
    return page.render("comparison.html", "comparison", values)


def _sections(comparison: Comparison, names: Mapping[str, str]) -> Iterator[_Section]:
    """Yield the sections with plots."""
    every = setup_names(comparison)
    has = comparison.contenders

    def panels(draw: Callable[[Setup], str], note: Callable[[Setup], str] = lambda _: "") -> list[_Panel]:
        return [_Panel(label, draw(setup), note(setup)) for setup, label in every.items()]

    def bars(value: plots.Value, label: str, *, int8_only: bool = False, mark: float | None = None) -> list[_Panel]:
        precisions = ("int8",) if int8_only else plots.PRECISIONS
        return panels(lambda s: plots.bars(comparison, s, names, value, label, precisions=precisions, mark=mark))

    if any(entry.accuracy is not None for entry in has):
        yield _Section(
            "Accuracy against latency",
            panels(lambda s: plots.front(comparison, s, names)),
            "Dashed: the Pareto front, beaten by nothing in both. Thin lines join a model's two precisions.",
        )
    yield _Section("Latency", bars(lambda e: e.latency.median, "latency, ms"))
    for cost, (title, label, value) in _COSTS.items():
        if len({value(entry) for entry in has} - {None}) > 1:
            draw = partial(_cost_scatter, comparison, names, value, label)
            yield _Section(title, panels(draw, partial(_told, comparison, cost)))
    yield _Section("Size", bars(lambda e: e.size_bytes / 1e6, "MB"))
    if any(entry.speed_up is not None for entry in has):
        yield _Section("INT8 speed-up", bars(lambda e: e.speed_up, "times as fast as FP32", int8_only=True, mark=1.0))
    if any(entry.ap_drop is not None for entry in has):
        yield _Section("INT8 drop", bars(lambda e: e.ap_drop, "points of AP below FP32", int8_only=True))
    if any(entry.layers for entry in has):
        yield _Section("Where the time goes", panels(lambda s: plots.kinds(comparison, s, names)))


def _cost_scatter(
    comparison: Comparison, names: Mapping[str, str], value: plots.Value, label: str, setup: Setup
) -> str:
    return plots.cost_scatter(comparison, setup, names, value, label)


def _told(comparison: Comparison, cost: str, setup: Setup) -> str:
    """Say how well a cost tells latency."""
    told = [
        f"{found.plan.precision.upper()}: Pearson {found.pearson:.2f}, Spearman {found.spearman:.2f}"
        for found in comparison.correlations
        if found.cost == cost and Setup(found.plan.engine, found.plan.threads) == setup
    ]
    return f"Correlation over the models. {'; '.join(told)}." if told else ""


def _training(curves: Sequence[Curve]) -> Iterator[_Section]:
    if curves:
        yield _Section("Training", [_Panel("loss", plots.losses(curves))])


def _layered(comparison: Comparison, model: str) -> list[SlowestLayers]:
    """Return a model's slowest layers under each plan."""
    return [
        slowest_layers(entry.plan, entry.layers, most=_SLOWEST)
        for entry in comparison.contenders
        if entry.model == model and entry.layers
    ]
