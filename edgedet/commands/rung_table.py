"""The parity ladder as a table: one row per rung, the last ones are the written files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgedet import output

if TYPE_CHECKING:
    from edgedet_runtime.bundle.rungs import Rung

__all__ = ["show_rungs"]


def show_rungs(rungs: Sequence[Rung]) -> None:
    """Print the ladder; nothing where there is none."""
    if not rungs:
        return
    output.table(
        ["checked", "against", "scores within", "boxes within px", "allowed", ""],
        [
            [
                rung.stage,
                rung.against,
                f"{rung.score_error:.1e}",
                f"{rung.box_error_px:.1e}",
                f"{rung.score_tolerance:.0e}, {rung.box_tolerance_px:.2g} px",
                "ok" if rung.passed else "FAILED",
            ]
            for rung in rungs
        ],
        title=f"parity, {rungs[0].images} pictures",
        numeric=["scores within", "boxes within px"],
    )
