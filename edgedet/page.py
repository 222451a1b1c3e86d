"""What every HTML page of edgedet shares: one file, no network, no scripts, light and dark, phone and desk.

Plots are matplotlib's, as SVG within the page; what is drawn in `INK` follows the page's text colour.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import InputError

__all__ = ["INK", "PRECISION_COLOURS", "as_svg", "new_figure", "number", "render", "write"]

INK = "#010203"
"""Stands for the page's text colour in plots; becomes ``currentColor``."""

PRECISION_COLOURS = {"fp32": "#e08a00", "int8": "#1f9e89", "bf16": "#7a5195", "fp16": "#7a5195"}
"""By the precision that ran."""

_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgedet: {{ title }}</title><style>
:root { color-scheme: light dark; --line: #8884; --quiet: light-dark(#5c5c5c, #a3a3a3); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.n, th.n { text-align: right; } .best { font-weight: 700; } .quiet { color: var(--quiet); }
svg { width: 100%; height: auto; max-width: 46rem; display: block; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .9rem; } img { max-width: 100%; height: auto; }
summary { cursor: pointer; margin: .5rem 0; overflow-wrap: anywhere; } .notice { border-left: .25rem solid #e08a00;
padding-left: .75rem; } thead th { vertical-align: bottom; }
.panels { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.panels .quiet { font-size: .85rem; margin: .25rem 0; } h1, p, figcaption { overflow-wrap: anywhere; }
.pair { display: grid; gap: .5rem; grid-template-columns: repeat(2, minmax(0, 1fr)); margin-bottom: .75rem; }
thead th { white-space: normal; } .wide table { font-size: .9rem; } .layers { font-size: .8rem !important; }
.layers td { padding-block: .1rem; } .bar { min-width: 6rem; }
.bar span { background: #888; display: block; height: .8rem; }
.wide td:first-child, .wide th:first-child { background: Canvas; left: 0; position: sticky; }
tbody th.group { padding-top: 1rem; }
@media (max-width: 40rem) { .wide td:first-child { max-width: 9rem; overflow-wrap: anywhere; white-space: normal; } }
.bar .fp32 { background: #e08a00; } .bar .int8 { background: #1f9e89; }
</style></head><body>
{body}
</body></html>
"""


def render(body: str, title: str, plots: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """Return a page.

    Args:
        body: Jinja template of the page's body; every value is escaped, the plots excepted, which are drawn here.
        title: Of the page.
        plots: SVG by heading; in the body, ``plots`` lists (heading, SVG).
        values: Names in the body.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True)
    environment.filters["number"] = number
    drawn = [(heading, Markup(svg)) for heading, svg in plots.items()]
    return environment.from_string(_FRAME.replace("{body}", body)).render(title=title, plots=drawn, **values)


def write(text: str, target: Path) -> None:
    """Write a page.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as e:
        raise InputError(f"--html {target}: cannot be written: {e.strerror or e}") from None


def number(value: float | None, digits: int) -> str:
    """Return a number with so many decimals; nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"


def new_figure(height_in: float, width_in: float = 8.0) -> tuple[Any, Any]:
    """Return an empty matplotlib figure and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    figure.patch.set_alpha(0.0)
    axes.patch.set_alpha(0.0)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def as_svg(figure: Any) -> str:
    """Return the figure as an SVG element whose ink follows the page's text colour."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgedet", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
