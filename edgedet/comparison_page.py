"""A comparison as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedet import page
from edgedet.comparison import Comparison, Contender

__all__ = ["render_page", "write_page"]

_COLOURS = {"fp32": "#e08a00", "int8": "#1f9e89"}
_MARKERS = {"onnxruntime": "o", "openvino": "s", "opencv": "^"}

_BODY = """<h1>Models compared on {{ c.machine.cpu }}</h1>
<p class="quiet">{{ c.machine.threads_available }} of {{ c.machine.cpus_online }} CPUs, {{ c.machine.system }};
{{ packages }}; {{ c.picture }}{% if load %}; load of other processes {{ load }} CPUs{% endif %}.
Latency is end to end, the median of {{ c.contenders[0].latency.count }} runs, all models interleaved.</p>
<div class="wide"><table><thead><tr><th>model</th><th>plan</th><th class="n">parameters</th><th class="n">GFLOPs</th>
<th class="n">MB</th><th class="n">ms</th><th class="n">p90</th><th class="n">speed-up</th>
{% if c.data %}<th class="n">AP</th><th class="n">AP50</th><th class="n">drop</th>{% endif %}</tr></thead><tbody>
{% for e in c.contenders %}<tr{% if e.best %} class="best"{% endif %}>
<td>{{ names[loop.index0] }}</td><td>{{ e.plan }}</td>
<td class="n">{{ "{:,}".format(e.params) if e.params is not none }}</td><td class="n">{{ e.gflops | number(2) }}</td>
<td class="n">{{ (e.size_bytes / 1e6) | number(2) }}</td><td class="n">{{ e.latency.median | number(2) }}</td>
<td class="n">{{ e.latency.p90 | number(2) }}</td><td class="n">{{ e.speed_up | number(2) }}</td>
{% if c.data %}<td class="n">{{ e.ap | number(3) }}</td><td class="n">{{ e.ap50 | number(3) }}</td>
<td class="n">{{ e.ap_drop | number(2) }}</td>{% endif %}</tr>
{% endfor %}</tbody></table></div>
<p class="quiet">Bold: nothing here is {% if c.data %}both faster and more accurate{% else %}faster{% endif %}.
Speed-up: over FP32 of the same engine.{% if c.data %} Drop: points of AP below FP32.{% endif %}</p>
{% for title, plot in plots %}<h2>{{ title }}</h2>{{ plot }}{% endfor %}
{% for r in c.correlations %}<p>{{ r.plan }}: GFLOPs and latency of {{ r.models }} models correlate with
r = {{ r.r | number(2) }}.</p>{% endfor %}"""


def write_page(comparison: Comparison, target: Path) -> None:
    """Write the page.

    Raises:
        InputError: The file cannot be written.
    """
    page.write(render_page(comparison), target)


def render_page(comparison: Comparison) -> str:
    """Return the page's HTML; every name that comes from a file is escaped."""
    names = [Path(entry.model).name for entry in comparison.contenders]
    plots: dict[str, str] = {}
    if comparison.data is not None:
        points = [(e.latency.median, e.ap) for e in comparison.contenders]
        plots["Accuracy against latency"] = _scatter(comparison.contenders, names, points, "AP", front=True)
    plots["Latency"] = _bars(comparison.contenders, names)
    if len({entry.gflops for entry in comparison.contenders} - {None}) > 1:
        points = [(e.latency.median, e.gflops) for e in comparison.contenders]
        plots["GFLOPs against latency"] = _scatter(comparison.contenders, names, points, "GFLOPs")
    values = {
        "c": comparison,
        "names": names,
        "load": page.number(comparison.other_load_cpus, 2),
        "packages": ", ".join(f"{k} {v}" for k, v in comparison.machine.packages.items()),
    }
    return page.render(_BODY, "comparison", plots, values)


def _scatter(
    contenders: Sequence[Contender],
    names: Sequence[str],
    points: Sequence[tuple[float, float | None]],
    label: str,
    *,
    front: bool = False,
) -> str:
    """Plot a figure over latency; with `front`, join the contenders that nothing beats."""
    figure, axes = page.new_figure(4.2)
    for entry, name, (x, y) in zip(contenders, names, points, strict=True):
        if y is not None:
            marker, colour = _MARKERS.get(entry.plan.engine, "o"), _COLOURS.get(entry.plan.precision, page.INK)
            axes.plot([x], [y], marker=marker, color=colour, linestyle="", markersize=8)
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(7, 5), fontsize=8, color=page.INK)
    if front:
        best = sorted((x, y) for entry, (x, y) in zip(contenders, points, strict=True) if entry.best and y is not None)
        axes.plot([x for x, _ in best], [y for _, y in best], color=page.INK, linewidth=0.8, linestyle="--")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel(label)
    axes.margins(0.12)
    _legend(axes, contenders)
    return page.as_svg(figure)


def _bars(contenders: Sequence[Contender], names: Sequence[str]) -> str:
    figure, axes = page.new_figure(0.9 + 0.32 * len(contenders))
    order = sorted(range(len(contenders)), key=lambda i: -contenders[i].latency.median)
    for row, i in enumerate(order):
        entry = contenders[i]
        axes.barh(row, entry.latency.median, color=_COLOURS.get(entry.plan.precision, page.INK), height=0.7)
        axes.text(entry.latency.median, row, f" {entry.latency.median:.1f}", va="center", fontsize=8, color=page.INK)
    axes.set_yticks(range(len(order)), [f"{names[i]}, {contenders[i].plan}" for i in order], fontsize=8)
    axes.set_xlabel("latency, ms")
    axes.margins(x=0.1)
    return page.as_svg(figure)


def _legend(axes: Any, contenders: Sequence[Contender]) -> None:
    from matplotlib.lines import Line2D

    kinds = dict.fromkeys((c.plan.engine, c.plan.precision) for c in contenders)
    handles = [
        Line2D([], [], marker=_MARKERS.get(e, "o"), color=_COLOURS.get(p, page.INK), linestyle="", label=f"{e} {p}")
        for e, p in kinds
    ]
    axes.legend(handles=handles, labelcolor=page.INK, framealpha=0.0, fontsize=8)
