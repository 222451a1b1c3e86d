"""What a pass did to a model, and what it declined: plain records for the manifest and the screen.

Passes on modules (`edgedet_export.fuse`) and on ONNX graphs (`edgedet_export.onnx_passes`) report alike.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Change", "Declined", "PassReport"]


@dataclass(frozen=True, slots=True)
class Change:
    """One rewritten block.

    Attributes:
        path: Dotted name of the module in the model, or name of the tensor in the graph.
        what: What became what.
        relative_error: Largest difference of the block's output in its proof, relative to the output's largest value;
            None where the pass proves nothing by running (the parity ladder does).
    """

    path: str
    what: str
    relative_error: float | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """One block that looked like a candidate and was left as it is.

    Attributes:
        path: As in `Change`.
        why: The precondition that does not hold.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class PassReport:
    """The outcome of one pass.

    Attributes:
        name: The pass.
        changed: Blocks that it rewrote, in the order in which it did.
        declined: Blocks that it left.
    """

    name: str
    changed: tuple[Change, ...] = ()
    declined: tuple[Declined, ...] = ()
