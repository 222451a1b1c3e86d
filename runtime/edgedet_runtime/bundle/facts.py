"""What a manifest says of where a network came from and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ComplexityFacts",
    "DeclinedFacts",
    "FuseFacts",
    "PassFacts",
    "RewriteFacts",
    "SimplifyFacts",
    "SourceFacts",
]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What was exported.

    Attributes:
        file: Name of the file; None for a module or an untrained architecture.
        sha256: Its hash, hex.
        license: License of the weights, as far as it is known.
    """

    file: str | None = None
    sha256: str | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True)
class ComplexityFacts:
    """What one picture costs on paper, of the unfused network or of the ONNX file that it came as.

    Attributes:
        params: Trainable numbers.
        macs: Multiply-accumulates.
        gflops: Twice that, in 1e9.
        memory_access_bytes: What the layers read and write if nothing stays in a cache.
    """

    params: int
    macs: int
    gflops: float
    memory_access_bytes: int


@dataclass(frozen=True, slots=True)
class RewriteFacts:
    """One block that a pass rewrote.

    Attributes:
        path: Module or tensor.
        what: What became what.
        relative_error: Of its proof; None where running proves nothing.
    """

    path: str
    what: str
    relative_error: float | None = None


@dataclass(frozen=True, slots=True)
class DeclinedFacts:
    """One block that a pass left as it was.

    Attributes:
        path: Module or tensor.
        why: The precondition that does not hold.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class PassFacts:
    """What one pass did.

    Attributes:
        name: The pass.
        changed: What it rewrote.
        declined: What it left.
    """

    name: str
    changed: tuple[RewriteFacts, ...] = ()
    declined: tuple[DeclinedFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class FuseFacts:
    """What fusing did.

    Attributes:
        passes: One entry per pass, in order.
        modules_before: Leaf modules before.
        modules_after: Leaf modules after.
        params_before: Parameters before.
        params_after: Parameters after.
    """

    passes: tuple[PassFacts, ...]
    modules_before: int
    modules_after: int
    params_before: int
    params_after: int


@dataclass(frozen=True, slots=True)
class SimplifyFacts:
    """What simplifying the ONNX graph did.

    Attributes:
        nodes_before: Nodes before.
        nodes_after: Nodes after.
        declined: Why the simplified graph was not taken; None where it was.
    """

    nodes_before: int
    nodes_after: int
    declined: str | None = None
