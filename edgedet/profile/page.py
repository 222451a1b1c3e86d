"""A profile as one HTML page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from edgedet.html import page
from edgedet.html.slowest_layers import slowest_layers
from edgedet.profile.roofline_plot import draw_roofline
from edgedet.profile.tables import (
    ROOFLINE_COLUMNS,
    STEP_COLUMNS,
    THROUGHPUT_COLUMNS,
    describe_state,
    roofline_rows,
    roofline_sentence,
    step_rows,
    throughput_rows,
)
from edgedet_runtime.profiling.report import ProfileReport

__all__ = ["render_page", "write_page"]

_STEPS = {"pre_ms": "#7a5195", "infer_ms": "#1f9e89", "post_ms": "#e08a00"}
_SLOWEST = 25
_WIDTH_IN = 4.6


def write_page(report: ProfileReport, target: Path) -> None:
    """Write the page.

    Raises:
        InputError: The file cannot be written.
    """
    page.write(render_page(report), target)


def render_page(report: ProfileReport) -> str:
    """Return the page's HTML; every name that comes from a file is escaped."""
    layered = [entry for entry in report.plans if entry.layers]
    values = {
        "r": report,
        "rows": [(entry, entry.summaries()) for entry in report.plans],
        "bars": _steps(report),
        "steps": [step_rows(entry) for entry in report.plans],
        "step_columns": STEP_COLUMNS,
        "state": describe_state(report),
        "throughput": throughput_rows(report),
        "throughput_columns": THROUGHPUT_COLUMNS,
        "rooflines": roofline_rows(report),
        "roofline_columns": ROOFLINE_COLUMNS,
        "sentence": roofline_sentence(report),
        "drawn": [
            (f"Roofline of {entry.plan}", draw_roofline(entry.layers, entry.places(), entry.peaks))
            for entry in layered
            if entry.peaks is not None
        ],
        "slowest": [
            (
                entry.plan == report.recommended,
                slowest_layers(f"Layers of {entry.plan}", entry.layers, entry.places(), most=_SLOWEST),
            )
            for entry in layered
        ],
        "packages": ", ".join(f"{k} {v}" for k, v in report.machine.packages.items()),
    }
    return page.render("profile.html", f"profile of {report.name}", values)


def _steps(report: ProfileReport) -> str:
    """Stack the medians of the three steps, one bar per plan."""
    figure, axes = page.new_figure(1.2 + 0.26 * len(report.plans), _WIDTH_IN)
    for row, entry in enumerate(reversed(report.plans)):
        of, left = entry.summaries(), 0.0
        for name, color in _STEPS.items():
            label = name.removesuffix("_ms") if row == 0 else None
            axes.barh(row, of[name].median, left=left, color=color, height=0.7, label=label)
            left += of[name].median
        axes.text(left, row, f" {of['end_to_end_ms'].median:.1f}", va="center", fontsize=7, color=page.INK)
    axes.set_yticks(range(len(report.plans)), [str(e.plan) for e in reversed(report.plans)], fontsize=8)
    axes.set_xlabel("ms", fontsize=8)
    axes.margins(x=0.1)
    axes.tick_params(labelsize=7)
    place = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
    axes.legend(labelcolor=page.INK, framealpha=0.0, fontsize=7, ncols=len(_STEPS), handlelength=1.0, **place)
    return page.as_svg(figure)
