"""The plots of a comparison, one panel per setup, narrow enough to be read on a phone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgedet.comparison.contenders import Comparison, Contender
from edgedet.comparison.table import PRECISIONS, Setup, by_setup, number
from edgedet.comparison.training_log import Curve
from edgedet.html import page
from edgedet.html.plot_labels import label_points
from edgedet_runtime.choices import Precision

__all__ = ["PRECISIONS", "Value", "bars", "cost_scatter", "front", "kinds", "losses", "pareto", "short_names"]

_NAMES = {"fp32": "FP32", "int8": "INT8"}
_KINDS = ("#1f9e89", "#e08a00", "#7a5195", "#3b82c4", "#c8553d", "#8a9a2f", "#b05c9c")
_WIDTH_IN = 4.6

Value = Callable[[Contender], float | None]


def short_names(names: Mapping[str, str]) -> dict[str, str]:
    """Leave out what all names but the shortest begin with, up to a hyphen: ``yolov5n-ghostnet`` → ``ghostnet``."""
    stems = {name.split("-")[0] for name in names.values()}
    if len(names) < 3 or len(stems) > 1:
        return dict(names)
    stem = stems.pop()
    return {key: name.removeprefix(f"{stem}-") for key, name in names.items()}


def bars(
    comparison: Comparison,
    setup: Setup,
    names: Mapping[str, str],
    value: Value,
    label: str,
    *,
    precisions: Sequence[Precision] = PRECISIONS,
    mark: float | None = None,
) -> str:
    """Draw a figure of each model as bars, one per precision, in the order given.

    Args:
        comparison: What was measured.
        setup: Engine and threads.
        names: To show, by model.
        value: The figure; None draws no bar.
        label: Of the axis.
        precisions: Which to draw.
        mark: Where to draw a line across, such as 1 for ratios.
    """
    group = by_setup(comparison, setup)
    used = [p for p in precisions if any(p in of and value(of[p]) is not None for of in group.values())]
    thick = 0.8 / max(1, len(used))
    figure, axes = page.new_figure(0.8 + (0.13 + 0.13 * len(used)) * len(group), _WIDTH_IN)
    for row, of in enumerate(group.values()):
        for at, precision in enumerate(used):
            x = value(of[precision]) if precision in of else None
            if x is not None:
                y = row + (at - (len(used) - 1) / 2) * thick
                axes.barh(y, x, height=thick * 0.92, color=page.PRECISION_COLORS.get(precision, page.INK))
                axes.text(max(x, 0.0), y, f" {number(x)}", va="center", fontsize=6.5, color=page.INK)
    if mark is not None:
        axes.axvline(mark, color=page.INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(group)), [names[model] for model in group], fontsize=7)
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.margins(x=0.12)
    _finish(axes, label, None, used)
    return page.as_svg(figure)


def cost_scatter(comparison: Comparison, setup: Setup, names: Mapping[str, str], value: Value, label: str) -> str:
    """Draw latency over a cost that is known without running; FP32 carries the names, if it was measured."""
    figure, axes = page.new_figure(3.6, _WIDTH_IN)
    group = by_setup(comparison, setup)
    drawn: dict[Precision, dict[str, tuple[float, float]]] = {}
    for model, of in group.items():
        for precision, entry in of.items():
            x = value(entry)
            if x is not None:
                drawn.setdefault(precision, {})[model] = (x, entry.latency.median)
    for precision, points in drawn.items():
        _dots(axes, list(points.values()), precision)
    axes.margins(0.08, 0.1)
    axes.set_ylim(bottom=0)
    used = [p for p in PRECISIONS if p in drawn]
    _finish(axes, label, "latency, ms", used)
    if used:
        named, others = drawn[used[0]], [p for o in used[1:] for p in drawn[o].values()]
        label_points(axes, list(named.values()), [names[model] for model in named], avoid=others)
    return page.as_svg(figure)


def front(comparison: Comparison, setup: Setup, names: Mapping[str, str]) -> str:
    """Draw AP over latency, each model's FP32 joined to its INT8, and the Pareto front: what nothing here beats."""
    figure, axes = page.new_figure(3.8, _WIDTH_IN)
    group = by_setup(comparison, setup)
    points: list[tuple[float, float, str, str]] = []
    for model, of in group.items():
        own = [
            (e.latency.median, e.accuracy.ap, p, model)
            for p, e in of.items()
            if e.accuracy is not None and e.accuracy.ap is not None
        ]
        axes.plot([p[0] for p in own], [p[1] for p in own], color=page.INK, linewidth=0.4, alpha=0.4, zorder=1)
        points += own
    for precision in PRECISIONS:
        _dots(axes, [(x, y) for x, y, p, _ in points if p == precision], precision)
    best = pareto([(x, y) for x, y, _, _ in points])
    axes.step([x for x, _ in best], [y for _, y in best], where="post", color=page.INK, linewidth=1, linestyle="--")
    axes.margins(0.12)
    _finish(axes, "latency, ms", "AP", [p for p in PRECISIONS if any(q[2] == p for q in points)])
    named = {model: (x, y) for x, y, _, model in reversed(points)}
    others = [(x, y) for x, y, _, _ in points] + _along(best)
    label_points(axes, list(named.values()), [names[model] for model in named], avoid=others)
    return page.as_svg(figure)


def _along(best: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points on the steps of a front, close enough that no label fits between them."""
    found = []
    for (x0, y0), (x1, y1) in itertools.pairwise(best):
        found += [(x0 + (x1 - x0) * t / 20, y0) for t in range(21)] + [(x1, y0 + (y1 - y0) * t / 20) for t in range(21)]
    return found


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (latency, accuracy) that no other equals or beats in both, by latency."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept


def kinds(comparison: Comparison, setup: Setup, names: Mapping[str, str]) -> str:
    """Stack the time of each model's layers by kind and executed precision, FP32 above INT8."""
    group = by_setup(comparison, setup)
    rows = [(f"{names[m]} {_NAMES.get(p, p)}", of[p]) for m, of in group.items() for p in PRECISIONS if p in of]
    sums: list[dict[str, float]] = []
    total: dict[str, float] = {}
    for _, entry in rows:
        of_row: dict[str, float] = {}
        for layer in entry.layers:
            kind = f"{layer.kind} {layer.precision}"
            of_row[kind] = of_row.get(kind, 0.0) + layer.time_ms
        for kind, ms in of_row.items():  # by share, so that what is fast counts as much as what is slow
            total[kind] = total.get(kind, 0.0) + ms / (sum(of_row.values()) or 1.0)
        sums.append(of_row)
    most = sorted(total, key=lambda kind: -total[kind])[: len(_KINDS)]
    figure, axes = page.new_figure(1.3 + 0.2 * len(rows), _WIDTH_IN)
    for row, of_row in enumerate(sums):
        left = 0.0
        for kind, color in zip(most, _KINDS, strict=False):
            axes.barh(row, of_row.get(kind, 0.0), left=left, height=0.75, color=color)
            left += of_row.get(kind, 0.0)
        axes.barh(row, sum(of_row.values()) - left, left=left, height=0.75, color="#888888")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _finish(axes, "ms in layers, profiler on", None, ())
    _legend(axes, [*zip(most, _KINDS, strict=False), *([("other", "#888888")] if len(total) > len(most) else [])])
    return page.as_svg(figure)


def losses(curves: Sequence[Curve]) -> str:
    """Draw the loss of training runs over the pictures seen, on a logarithmic axis."""
    figure, axes = page.new_figure(3.6, _WIDTH_IN)
    colors = [_KINDS[i % len(_KINDS)] for i in range(len(curves))]
    for run, (curve, color) in enumerate(zip(curves, colors, strict=True)):
        style = ("-", "--", ":")[run // len(_KINDS) % 3]
        axes.plot([i / 1e3 for i in curve.images], curve.loss, color=color, linewidth=1, linestyle=style)
    axes.set_yscale("log")
    for of in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        of("{x:g}")
    _finish(axes, "pictures seen, thousands", "loss", ())
    _legend(axes, [(curve.run, color) for curve, color in zip(curves, colors, strict=True)])
    return page.as_svg(figure)


def _dots(axes: Any, points: Sequence[tuple[float, float]], precision: Precision) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    axes.plot(xs, ys, "o", color=page.PRECISION_COLORS.get(precision, page.INK), markersize=5, zorder=2)


def _finish(axes: Any, x_label: str, y_label: str | None, precisions: Sequence[Precision]) -> None:
    axes.set_xlabel(x_label, fontsize=8)
    axes.tick_params(which="both", labelsize=7, colors=page.INK)
    if y_label is not None:
        axes.set_ylabel(y_label, fontsize=8)
    if len(precisions) > 1:
        _legend(axes, [(_NAMES[p], page.PRECISION_COLORS.get(p, page.INK)) for p in precisions])


def _legend(axes: Any, entries: Sequence[tuple[str, str]]) -> None:
    """Name the colors above the plot, where no point can be."""
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=name) for name, color in entries]
    columns = 2 if len(entries) > 3 else len(entries)
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    axes.legend(
        handles=handles, labelcolor=page.INK, framealpha=0.0, fontsize=7, ncols=columns, handlelength=1.0, **place
    )
