"""What fusing did, and what it declined: plain records for the manifest and the screen."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Change", "Declined", "FuseReport", "PassReport"]


@dataclass(frozen=True, slots=True)
class Change:
    """One rewritten block.

    Attributes:
        path: Dotted name of the module in the model.
        what: What became what.
        relative_error: Largest difference of the block's output in its proof, relative to the output's largest value.
    """

    path: str
    what: str
    relative_error: float


@dataclass(frozen=True, slots=True)
class Declined:
    """One block that looked like a candidate and was left as it is.

    Attributes:
        path: Dotted name of the module in the model.
        why: The precondition that does not hold.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class PassReport:
    """The outcome of one pass.

    Attributes:
        name: The pass.
        changed: Blocks that it rewrote, in module order.
        declined: Blocks that it left.
    """

    name: str
    changed: tuple[Change, ...] = ()
    declined: tuple[Declined, ...] = ()


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
        return max((c.relative_error for p in self.passes for c in p.changed), default=0.0)
