"""The roofline picture: how much each layer computes per second, over how much it computes per byte.

One point per layer that multiplies, its area the layer's share of the time; layers that only move data have no place
on the logarithmic axis. Above them the roofs: level, the engine's peaks; sloping, the bandwidths from cache and from
memory. What a layer of I operations (two per multiply-accumulate) per byte can reach at B bytes per second is I x B / 2
multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgedet.html import page
from edgedet_runtime.profiling.layers import Layer
from edgedet_runtime.profiling.roofline import Peaks, Place

__all__ = ["draw_roofline"]

_LARGEST_POINT = 130.0
_ROOF = "#888888"


def draw_roofline(layers: Sequence[Layer], places: Sequence[Place], peaks: Peaks) -> str:
    """Draw layers under an engine's roofs; SVG.

    Args:
        layers: As executed.
        places: Of each, from the same peaks.
        peaks: The roofs.
    """
    shown = [(x, at) for x, at in zip(layers, places, strict=True) if x.macs and at.gmacs_per_s]
    figure, axes = page.new_figure(3.8, 4.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    intensities = [layer.intensity for layer, _ in shown] or [1.0]
    span = np.geomspace(min(intensities) / 3, max(*intensities, 100.0) * 3, 200)
    _roofs(axes, peaks, span)
    longest = max((layer.time_ms for layer, _ in shown), default=1.0)
    for precision in dict.fromkeys(layer.precision for layer, _ in shown):
        of = [(layer, at) for layer, at in shown if layer.precision == precision]
        axes.scatter(
            [layer.intensity for layer, _ in of],
            [at.gmacs_per_s for _, at in of],
            s=[12 + _LARGEST_POINT * layer.time_ms / longest for layer, _ in of],
            c=page.PRECISION_COLORS.get(precision, "#888"),
            alpha=0.6,
            linewidths=0,
            label=f"{precision}: {len(of)} layers",
        )
    axes.set_xlabel("operations per byte (2 per multiply-accumulate)", fontsize=8)
    axes.set_ylabel("GMAC/s", fontsize=8)
    axes.tick_params(which="both", labelsize=7, colors=page.INK)
    axes.set_xlim(span[0], span[-1])
    legend = axes.legend(labelcolor=page.INK, framealpha=0.0, fontsize=7, loc="lower right") if shown else None
    for handle in legend.legend_handles if legend is not None else ():
        handle.set_sizes([40.0])
    return page.as_svg(figure)


def _roofs(axes: Any, peaks: Peaks, span: Any) -> None:
    top = max(peaks.gmacs_per_s.values(), default=float("inf"))
    for name, gb_per_s in (("cache", peaks.bandwidth.cache_gb_per_s), ("memory", peaks.bandwidth.memory_gb_per_s)):
        line = span * gb_per_s / 2
        below = line <= top
        axes.plot(span[below], line[below], color=_ROOF, linewidth=1.2, linestyle="-" if name == "memory" else "--")
        middle = max(0, int(below.sum()) // 2 - 1)
        _label(axes, f"{name}, {gb_per_s:.0f} GB/s", (span[middle], line[middle]), (5, -4), va="top", ha="left")
    nearest = peaks.bandwidth.cache_gb_per_s
    for precision, peak in peaks.gmacs_per_s.items():
        level = span[span * nearest / 2 >= peak]
        if level.size:
            axes.plot(level, np.full(level.size, peak), color=_ROOF, linewidth=1.2)
        _label(axes, f"{precision} peak, {peak:.0f} GMAC/s", (span[-1], peak), (-4, 2), va="bottom", ha="right")


def _label(axes: Any, text: str, at: tuple[float, float], offset: tuple[int, int], *, va: str, ha: str) -> None:
    """Write beside a point, so many typographic points away."""
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=7, color=page.INK, va=va, ha=ha)
