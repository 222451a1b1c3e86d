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
        ["checked", "against", "raw outputs within", "scores within", "boxes within px", "allowed", ""],
        [
            [
                rung.stage,
                rung.against,
                f"{max(output.max_rel for output in rung.outputs):.1e}" if rung.outputs else "",
                f"{rung.score_error:.1e}",
                f"{rung.box_error_px:.1e}",
                _allowed(rung),
                "ok" if rung.passed else "FAILED",
            ]
            for rung in rungs
        ],
        title=f"parity, {rungs[0].images} pictures",
        numeric=["raw outputs within", "scores within", "boxes within px"],
    )


def _allowed(rung: Rung) -> str:
    """Say what was allowed; raw outputs first, where they are judged."""
    raw = f"{rung.raw_tolerance:.0e}, " if rung.raw_tolerance is not None and rung.outputs else ""
    return f"{raw}{rung.score_tolerance:.0e}, {rung.box_tolerance_px:.2g} px"
