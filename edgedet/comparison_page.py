"""A comparison as one HTML page that needs nothing else: no network, no scripts, light and dark, phone and desk."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedet.comparison import Comparison, Contender
from edgedet_runtime.errors import InputError

__all__ = ["render_page", "write_page"]

_INK = "#010203"
"""Stands for the page's text colour in the plots; replaced by ``currentColor``."""
_COLOURS = {"fp32": "#e08a00", "int8": "#1f9e89"}
_MARKERS = {"onnxruntime": "o", "openvino": "s", "opencv": "^"}

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgedet: comparison</title><style>
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.n, th.n { text-align: right; } .best { font-weight: 700; } .quiet { color: var(--quiet); }
svg { width: 100%; height: auto; max-width: 46rem; display: block; }
</style></head><body>
<h1>Models compared on {{ c.machine.cpu }}</h1>
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
r = {{ r.r | number(2) }}.</p>{% endfor %}
</body></html>
"""


def write_page(comparison: Comparison, target: Path) -> None:
    """Write the page.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        target.write_text(render_page(comparison), encoding="utf-8")
    except OSError as e:
        raise InputError(f"--html {target}: cannot be written: {e.strerror or e}") from None


def render_page(comparison: Comparison) -> str:
    """Return the page's HTML; every name that comes from a file is escaped."""
    from jinja2 import Environment
    from markupsafe import Markup

    names = [Path(entry.model).name for entry in comparison.contenders]
    plots = [("Latency", _bars(comparison.contenders, names))]
    if comparison.data is not None:
        points = [(e.latency.median, e.ap) for e in comparison.contenders]
        plots.insert(0, ("Accuracy against latency", _scatter(comparison.contenders, names, points, "AP", front=True)))
    if len({entry.gflops for entry in comparison.contenders} - {None}) > 1:
        points = [(e.latency.median, e.gflops) for e in comparison.contenders]
        plots.append(("GFLOPs against latency", _scatter(comparison.contenders, names, points, "GFLOPs")))
    environment = Environment(autoescape=True)
    environment.filters["number"] = _number
    return environment.from_string(_TEMPLATE).render(
        c=comparison,
        names=names,
        load=_number(comparison.other_load_cpus, 2),
        packages=", ".join(f"{k} {v}" for k, v in comparison.machine.packages.items()),
        plots=[(title, Markup(svg)) for title, svg in plots],
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _scatter(
    contenders: Sequence[Contender],
    names: Sequence[str],
    points: Sequence[tuple[float, float | None]],
    label: str,
    *,
    front: bool = False,
) -> str:
    """Plot a figure over latency; with `front`, join the contenders that nothing beats."""
    figure, axes = _figure(4.2)
    for entry, name, (x, y) in zip(contenders, names, points, strict=True):
        if y is not None:
            marker, colour = _MARKERS.get(entry.plan.engine, "o"), _COLOURS.get(entry.plan.precision, _INK)
            axes.plot([x], [y], marker=marker, color=colour, linestyle="", markersize=8)
            axes.annotate(name, (x, y), textcoords="offset points", xytext=(7, 5), fontsize=8, color=_INK)
    if front:
        best = sorted((x, y) for entry, (x, y) in zip(contenders, points, strict=True) if entry.best and y is not None)
        axes.plot([x for x, _ in best], [y for _, y in best], color=_INK, linewidth=0.8, linestyle="--")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel(label)
    axes.margins(0.12)
    _legend(axes, contenders)
    return _svg(figure)


def _bars(contenders: Sequence[Contender], names: Sequence[str]) -> str:
    figure, axes = _figure(0.9 + 0.32 * len(contenders))
    order = sorted(range(len(contenders)), key=lambda i: -contenders[i].latency.median)
    for row, i in enumerate(order):
        entry = contenders[i]
        axes.barh(row, entry.latency.median, color=_COLOURS.get(entry.plan.precision, _INK), height=0.7)
        axes.text(entry.latency.median, row, f" {entry.latency.median:.1f}", va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(order)), [f"{names[i]}, {contenders[i].plan}" for i in order], fontsize=8)
    axes.set_xlabel("latency, ms")
    axes.margins(x=0.1)
    return _svg(figure)


def _figure(height_in: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height_in), layout="constrained")
    axes = figure.subplots()
    figure.patch.set_alpha(0.0)
    axes.patch.set_alpha(0.0)
    for side, spine in axes.spines.items():
        spine.set_color(_INK)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _legend(axes: Any, contenders: Sequence[Contender]) -> None:
    from matplotlib.lines import Line2D

    kinds = dict.fromkeys((c.plan.engine, c.plan.precision) for c in contenders)
    handles = [
        Line2D([], [], marker=_MARKERS.get(e, "o"), color=_COLOURS.get(p, _INK), linestyle="", label=f"{e} {p}")
        for e, p in kinds
    ]
    axes.legend(handles=handles, labelcolor=_INK, framealpha=0.0, fontsize=8)


def _svg(figure: Any) -> str:
    """Return the figure as an SVG element whose ink follows the page's text colour."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgedet", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
