"""Labels beside the points of a scatter plot, placed so that they cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgedet.html import page

__all__ = ["label_points"]

_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_PLACES = tuple((side, distance) for distance in (6, 11, 17, 24, 32, 42, 54) for side in _SIDES)
_LINE_FROM_PT = 17
_MARKER_PT = 3.5
_FREE_PX = 0.01


def label_points(
    axes: Any, points: Sequence[tuple[float, float]], names: Sequence[str], *, avoid: Sequence[tuple[float, float]] = ()
) -> None:
    """Write a name near each point, in the nearest free place; a far one gets a thin line to its point.

    Call it when everything else is drawn and the limits stand, since places are found by extent in the drawing.

    Args:
        axes: matplotlib's.
        points: In data coordinates.
        names: One per point.
        avoid: Further points that no label shall cover.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    if not points:
        return
    canvas: Any = FigureCanvasAgg(axes.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    px_per_pt = axes.figure.dpi / 72
    dot = _MARKER_PT * px_per_pt
    taken = [
        Bbox([[x - dot, y - dot], [x + dot, y + dot]]) for x, y in axes.transData.transform([*points, *avoid]).tolist()
    ]
    inside = axes.get_window_extent(renderer)
    for point, name in sorted(zip(points, names, strict=True), reverse=True):
        text = axes.annotate(name, point, xytext=(0, 0), textcoords="offset points", fontsize=7, color=page.INK)
        text.set_in_layout(False)
        extent = text.get_window_extent(renderer)
        x, y = axes.transData.transform(point).tolist()
        harms, boxes = [], []
        for side, distance in _PLACES:
            box = _box(x, y, extent.width, extent.height, side, distance * px_per_pt)
            boxes.append(Bbox(box))
            harms.append(sum(_overlap(boxes[-1], o) for o in taken) + _outside(boxes[-1], inside))
            if harms[-1] < _FREE_PX:
                break
        best = harms.index(min(harms))
        (right, up), distance = _PLACES[best]
        text.set_position((right * distance, up * distance))
        text.set_horizontalalignment(("center", "left", "right")[right])
        text.set_verticalalignment(("center", "bottom", "top")[up])
        taken.append(boxes[best])
        if distance >= _LINE_FROM_PT:
            _join(axes, point, text.get_position())


def _box(x: float, y: float, width: float, height: float, side: tuple[int, int], away: float) -> list[list[float]]:
    """Return the corners of a label of this size on one side of a point, in pixels."""
    left = x + side[0] * away - width * (0.5, 0.0, 1.0)[side[0]]
    low = y + side[1] * away - height * (0.5, 0.0, 1.0)[side[1]]
    return [[left, low], [left + width, low + height]]


def _join(axes: Any, point: tuple[float, float], offset_pt: tuple[float, float]) -> None:
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": page.INK, "alpha": 0.5}
    drawn = axes.annotate("", point, xytext=offset_pt, textcoords="offset points", arrowprops=line)
    drawn.set_in_layout(False)


def _outside(box: Any, inside: Any) -> float:
    """Return the area of a box that lies outside of another."""
    return float(box.width * box.height) - _overlap(box, inside)


def _overlap(a: Any, b: Any) -> float:
    """Return the area that two boxes share, in pixels."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(width, 0.0) * max(height, 0.0))
