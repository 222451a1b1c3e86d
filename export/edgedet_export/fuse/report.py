"""What fusing did, and what it declined: plain records for the manifest and the screen."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet_export.pass_report import Change, Declined, PassReport

__all__ = ["Change", "Declined", "FuseReport", "PassReport"]


@dataclass(frozen=True, slots=True)
class FuseReport:
    """The outcome of all passes.

    Attributes:
        passes: One report per pass, in the order in which they ran.
        modules_before: Leaf modules before fusing, identities not counted.
        modules_after: Leaf modules after fusing, identities not counted.
        params_before: Parameters before.
        params_after: Parameters after.
    """

    passes: tuple[PassReport, ...]
    modules_before: int
    modules_after: int
    params_before: int
    params_after: int

    @property
    def worst_relative_error(self) -> float:
        """Largest relative error of all proofs; 0 if nothing was fused."""
        return max((c.relative_error or 0.0 for p in self.passes for c in p.changed), default=0.0)
