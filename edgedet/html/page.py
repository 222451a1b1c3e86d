"""What every HTML page of edgedet shares: one file, no network, no scripts, light and dark, phone and desk.

Plots are matplotlib's, as SVG within the page; what is drawn in `INK` follows the page's text color.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedet_runtime.errors import InputError
from edgedet_runtime.writable import require_writable

__all__ = ["INK", "PRECISION_COLORS", "as_svg", "check_place", "new_figure", "number", "render", "tail", "write"]

INK = "#010203"
"""Stands for the page's text color in plots; becomes ``currentColor``."""

PRECISION_COLORS = {"fp32": "#e08a00", "int8": "#1f9e89", "bf16": "#7a5195", "fp16": "#7a5195"}
"""By the precision that ran."""


def render(body: str, title: str, values: Mapping[str, Any]) -> str:
    """Return a page.

    Args:
        body: File name of the body's Jinja template in ``templates``; every value is escaped there, and what is drawn
            here passes as ``svg | safe``.
        title: Of the page.
        values: Names in the body.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(autoescape=True, loader=PackageLoader("edgedet.html", "templates"))
    environment.filters |= {"number": number, "tail": tail}
    return environment.get_template("frame.html").render(body=body, title=title, **values)


def check_place(target: Path) -> None:
    """Refuse a place where no page can be written, before what goes into it is measured.

    Raises:
        InputError: The folder does not exist or is closed, or a folder has the name.
    """
    if target.is_dir() or not target.parent.is_dir():
        what = "it is a folder" if target.is_dir() else f"{target.parent} is no folder that can be written to"
        raise InputError(f"--html {target}: expected a place for a file: {what}")
    require_writable(target, argument="html")


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
    """Return a number with so many decimals, zero without a sign; nothing for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def tail(name: str, length: int = 40) -> str:
    """Return a name's end, which tells layers apart, marked where its start was cut off."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


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
    """Return the figure as an SVG element whose ink follows the page's text color."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgedet", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
