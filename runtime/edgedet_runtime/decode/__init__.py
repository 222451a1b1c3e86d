"""Decoders: from the raw outputs of a model to candidates, one file per kind of head.

To add a kind: a file with ``decode(outputs, spec, conf, multi_label) -> Candidates``, a line here, and its
name in ``spec.BoxKind``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgedet_runtime.candidates import Candidates, Outputs
from edgedet_runtime.decode import anchors, decoded, dfl, ltrb, nms, points_exp, priors, queries
from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import BoxKind, DecodeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["KINDS", "decode_outputs"]

KINDS: dict[BoxKind, Callable[[Outputs, DecodeSpec, float, bool], Candidates]] = {
    "anchors": anchors.decode,
    "points-exp": points_exp.decode,
    "ltrb": ltrb.decode,
    "dfl": dfl.decode,
    "priors": priors.decode,
    "queries": queries.decode,
    "decoded": decoded.decode,
    "nms": nms.decode,
}


def decode_outputs(
    raw: Sequence[npt.NDArray[np.float32]], spec: DecodeSpec, *, conf: float, multi_label: bool = False
) -> Candidates:
    """Decode a model's outputs.

    Args:
        raw: float32 arrays in the order of ``spec.output_names``; batch 1.
        spec: The model's decode rules.
        conf: Candidates score above this, 0..1.
        multi_label: Every class above `conf` of a cell makes a candidate, not only the best one.

    Returns:
        Candidates in input pixels, in a fixed order; new arrays.

    Raises:
        EngineError: The outputs are not those of the spec, or contain NaN.
    """
    names = spec.output_names
    if len(raw) != len(names):
        raise EngineError(f"outputs: expected {len(names)} ({', '.join(names)}), got {len(raw)}")
    return KINDS[spec.kind](dict(zip(names, raw, strict=True)), spec, conf, multi_label)
