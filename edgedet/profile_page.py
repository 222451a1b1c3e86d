"""A profile as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedet import page
from edgedet.profile_tables import (
    ROOFLINE_COLUMNS,
    STEP_COLUMNS,
    THROUGHPUT_COLUMNS,
    describe_state,
    roofline_rows,
    roofline_sentence,
    step_rows,
    throughput_rows,
)
from edgedet.roofline_plot import draw_roofline
from edgedet_runtime.profiling.layers import Layer
from edgedet_runtime.profiling.report import PlanProfile, ProfileReport
from edgedet_runtime.profiling.roofline import Place

__all__ = ["render_page", "write_page"]

_STEPS = {"pre_ms": "#7a5195", "infer_ms": "#1f9e89", "post_ms": "#e08a00"}
_SHOWN = 40

_BODY = """{% macro grid(columns, rows, words) %}<div class="wide"><table><thead><tr>
{% for name in columns %}<th{% if loop.index > words %} class="n"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}<tr>{% for cell in row %}<td{% if loop.index > words %} class="n"{% endif %}>{{ cell }}</td>
{% endfor %}</tr>{% endfor %}</tbody></table></div>{% endmacro %}
<h1>{{ r.name }} at {{ r.input_hw[1] }}x{{ r.input_hw[0] }} on {{ r.machine.cpu }}</h1>
<p class="quiet">{{ state }}; {{ r.machine.system }}; {{ packages }}; {{ r.picture }}{% if r.throttled %}; <b>the CPU
was throttled by heat meanwhile</b>{% endif %}{% if r.quota_throttled %}; <b>the container used up its CPU quota
meanwhile</b>{% endif %}.</p>
<p>Recommended: <b>{{ r.recommended }}</b>.</p>
<div class="wide"><table><thead><tr><th>plan</th><th class="n">pre</th><th class="n">infer</th><th class="n">post</th>
<th class="n">end to end ms</th><th class="n">p90</th><th class="n">p99</th><th class="n">spread</th>
<th class="n">first result s</th><th class="n">resident MB</th><th class="n">KB per 1000 runs</th></tr></thead><tbody>
{% for e, s in rows %}<tr{% if e.plan == r.recommended %} class="best"{% endif %}><td>{{ e.plan }}</td>
<td class="n">{{ s.pre_ms.median | number(2) }}</td><td class="n">{{ s.infer_ms.median | number(2) }}</td>
<td class="n">{{ s.post_ms.median | number(2) }}</td><td class="n">{{ s.end_to_end_ms.median | number(2) }}</td>
<td class="n">{{ s.end_to_end_ms.p90 | number(2) }}</td><td class="n">{{ s.end_to_end_ms.p99 | number(2) }}</td>
<td class="n">{{ (100 * s.end_to_end_ms.spread) | number(0) }} %</td>
{% if e.cold_start %}<td class="n">{{ e.cold_start.total_s | number(2) }}</td>
<td class="n">{{ e.cold_start.resident_mb | number(0) }}</td>
<td class="n">{{ e.cold_start.growth_kb_per_1000_runs | number(0) }}</td>
{% else %}<td></td><td></td><td></td>{% endif %}
</tr>
{% endfor %}</tbody></table></div>
<p class="quiet">Medians; spread: middle half over median; fresh processes for the first result and memory.</p>
<h2>Steps</h2>
{% for e, s in rows %}<p>{{ e.plan }}</p>
{{ grid(step_columns, steps[loop.index0], 1) }}{% endfor %}
<p class="quiet">ms, {{ rows[0][1].end_to_end_ms.count }} counted runs of each plan, alternatives taking turns.</p>
{% if throughput %}<h2>Several requests in flight</h2>
{{ grid(throughput_columns, throughput, 2) }}
<p class="quiet">Threads, each with a Detector of one engine thread; one request: images/s of one after the other, in
the best of the thread counts above.</p>{% endif %}
{% if rooflines %}<h2>What bounds the layers</h2>
{{ grid(roofline_columns, rooflines, 1) }}
<p class="quiet">Shares of the layers' time; of roof: what the peaks, measured here with the engine and threads, allow,
over what was measured. {{ sentence }}{% if sentence %}.{% endif %}</p>{% endif %}
{% for title, plot in plots %}<h2>{{ title }}</h2>{{ plot }}{% endfor %}"""


def write_page(report: ProfileReport, target: Path) -> None:
    """Write the page.

    Raises:
        InputError: The file cannot be written.
    """
    page.write(render_page(report), target)


def render_page(report: ProfileReport) -> str:
    """Return the page's HTML; every name that comes from a file is escaped."""
    plots = {"Where the time goes": _steps(report)}
    for entry in report.plans:
        if entry.layers:
            plots[f"Layers of {entry.plan}"] = _layers(entry)
        if entry.layers and entry.peaks is not None:
            plots[f"Roofline of {entry.plan}"] = draw_roofline(entry.layers, entry.places(), entry.peaks)
    values = {
        "r": report,
        "rows": [(entry, entry.summaries()) for entry in report.plans],
        "steps": [step_rows(entry) for entry in report.plans],
        "step_columns": STEP_COLUMNS,
        "state": describe_state(report),
        "throughput": throughput_rows(report),
        "throughput_columns": THROUGHPUT_COLUMNS,
        "rooflines": roofline_rows(report),
        "roofline_columns": ROOFLINE_COLUMNS,
        "sentence": roofline_sentence(report),
        "packages": ", ".join(f"{k} {v}" for k, v in report.machine.packages.items()),
    }
    return page.render(_BODY, f"profile of {report.name}", plots, values)


def _steps(report: ProfileReport) -> str:
    """Stack the medians of the three steps, one bar per plan."""
    figure, axes = page.new_figure(1.2 + 0.32 * len(report.plans))
    for row, entry in enumerate(reversed(report.plans)):
        of, left = entry.summaries(), 0.0
        for name, colour in _STEPS.items():
            label = name.removesuffix("_ms") if row == 0 else None
            axes.barh(row, of[name].median, left=left, color=colour, height=0.7, label=label)
            left += of[name].median
        axes.text(left, row, f" {of['end_to_end_ms'].median:.1f}", va="center", fontsize=8, color=page.INK)
    axes.set_yticks(range(len(report.plans)), [str(e.plan) for e in reversed(report.plans)], fontsize=8)
    axes.set_xlabel("ms")
    axes.margins(x=0.1)
    axes.legend(labelcolor=page.INK, framealpha=0.0, fontsize=8)
    return page.as_svg(figure)


def _layers(entry: PlanProfile) -> str:
    """Draw the slowest layers in order of execution, coloured by the precision that ran."""
    slowest = set(sorted(range(len(entry.layers)), key=lambda i: -entry.layers[i].time_ms)[:_SHOWN])
    places: Sequence[Place | None] = entry.places() or (None,) * len(entry.layers)
    pairs = [pair for i, pair in enumerate(zip(entry.layers, places, strict=True)) if i in slowest][::-1]
    layers: list[Layer] = [layer for layer, _ in pairs]
    figure, axes = page.new_figure(1.0 + 0.2 * len(layers))
    axes.barh(
        range(len(layers)),
        [x.time_ms for x in layers],
        color=[page.PRECISION_COLOURS.get(x.precision, "#888") for x in layers],
    )
    for row, (layer, at) in enumerate(pairs):
        cost = f"  {layer.macs / 1e6:.0f} MMACs, {layer.intensity:.0f} ops/byte" if layer.macs else ""
        if at is not None and at.attained is not None:
            cost += f", {at.bound}-bound, at {at.attained:.0%} of the roof"
        axes.text(layer.time_ms, row, f" {layer.precision}{cost}", va="center", fontsize=6, color=page.INK)
    axes.set_yticks(range(len(layers)), [f"{x.kind} {x.name[-36:]}" for x in layers], fontsize=6)
    axes.set_xlabel(f"ms; {len(layers)} slowest of {len(entry.layers)}, first executed on top")
    axes.margins(x=0.25, y=0.01)
    return page.as_svg(figure)
