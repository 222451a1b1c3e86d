"""The tail of a foreign file, from its head convolutions to its outputs, as a function that can be asked.

What an exporter put behind the head (sigmoid, grid, anchors, transposes, concatenations) differs from tool to tool
and version to version. It need not be read: it is run, on values of our choosing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.foreign.session import open_session, run
from edgedet_export.graph.conversion import to_proto
from edgedet_export.graph.extract import extract
from edgedet_export.graph.values import dims

__all__ = ["Tail"]

Array = npt.NDArray[np.float32]
Raw = Sequence[Sequence[Array]]
"""Values of the head's convolutions: per level, per convolution, float32 (C, H, W)."""


class Tail:
    """What a graph computes from its head convolutions."""

    def __init__(self, model: ir.Model, levels: Sequence[HeadLevel]) -> None:
        """Cut the tail out of a graph with fixed shapes; the model is not changed.

        Raises:
            ModelFileError: onnxruntime cannot run the tail.
        """
        self.levels = tuple(levels)
        self.output_names = tuple(value.name or "" for value in model.graph.outputs)
        heads = {conv.tensor: (1, conv.channels, level.height, level.width) for level in levels for conv in level.convs}
        self._direct = [name for name in self.output_names if name in heads]
        self._names = [name for name in self.output_names if name not in heads]
        part = extract(model, heads, self._names)
        self._inputs = {value.name or "": [d or 0 for d in dims(value) or ()] for value in part.graph.inputs}
        self._session = open_session(to_proto(part), what="the file's head") if self._names else None

    def run(self, raw: Raw) -> dict[str, Array]:
        """Return the file's outputs for given values of the head's convolutions."""
        values: dict[str, Array] = {}
        for level, arrays in zip(self.levels, raw, strict=True):
            for conv, array in zip(level.convs, arrays, strict=True):
                values[conv.tensor] = array[None].astype(np.float32)
        result = {name: values[name] for name in self._direct}
        if self._session is not None:
            feed = {k: values.get(k, np.zeros(dims, np.float32)) for k, dims in self._inputs.items()}
            outputs = run(self._session, feed, what="the file's head")
            result |= dict(zip(self._names, outputs, strict=True))
        return {name: result[name] for name in self.output_names}

    def random(self, seed: int, spread: float = 1.0) -> list[list[Array]]:
        """Return normally distributed values for all convolutions."""
        rng = np.random.default_rng(seed)
        return [
            [(rng.standard_normal((c.channels, lv.height, lv.width)) * spread).astype(np.float32) for c in lv.convs]
            for lv in self.levels
        ]

    def constant(self, value: float) -> list[list[Array]]:
        """Return one value everywhere."""
        return [[np.full((c.channels, lv.height, lv.width), value, np.float32) for c in lv.convs] for lv in self.levels]
