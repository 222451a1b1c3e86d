"""The slowest layers of a network under one plan: what both pages show as a table with bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedet_runtime.profiling.layers import Layer
    from edgedet_runtime.profiling.roofline import Place

__all__ = ["SlowestLayers", "slowest_layers"]


@dataclass(frozen=True, slots=True)
class SlowestLayers:
    """Layers with where they lie under the roofs; ``templates/layers.html`` draws them.

    Attributes:
        title: Says of what, and how many of how many.
        rows: In order of execution; the place is None where no peaks were measured.
        slowest_ms: Time of the slowest, for the bars.
    """

    title: str
    rows: tuple[tuple[Layer, Place | None], ...]
    slowest_ms: float

    @property
    def placed(self) -> bool:
        """Return whether the layers were held against peaks."""
        return any(at is not None for _, at in self.rows)


def slowest_layers(of: object, layers: Sequence[Layer], places: Sequence[Place] = (), *, most: int) -> SlowestLayers:
    """Pick the slowest layers.

    Args:
        of: What they belong to, for the title.
        layers: All, at least one, in order of execution.
        places: Of each; empty without peaks.
        most: How many to keep.
    """
    slowest = sorted(range(len(layers)), key=lambda i: -layers[i].time_ms)[:most]
    rows = tuple((layers[i], places[i] if places else None) for i in sorted(slowest))
    return SlowestLayers(f"{of}: {len(rows)} of {len(layers)}", rows, layers[slowest[0]].time_ms or 1.0)
