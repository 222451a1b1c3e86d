"""A form of the FP32 network that can be quantized, with what was measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.quantize.bias_correction import ChannelMeans
from edgedet_export.quantize.calibration import Calibration
from edgedet_export.quantize.layers import ConvLayer, find_layers
from edgedet_export.quantize.ranges import RangeRule
from edgedet_export.quantize.tensor_ranges import TensorRanges

__all__ = ["Variant"]


class Variant:
    """One form of the FP32 network, with what quantizing it needs.

    Attributes:
        model: FP32, with shapes.
        graph: Its graph.
        layers: Its convolutions; their ids are those of every form.
        means: Of their inputs' channels.
        statistics: Of its tensors.
    """

    def __init__(
        self, model: ir.Model, calibration: Calibration, tensors: Sequence[npt.NDArray[Any]], threads: int
    ) -> None:
        """Keep what was measured of a form, and measure the means of its channels on `tensors`."""
        self.model = model
        self.graph = model.graph
        self.layers: tuple[ConvLayer, ...] = find_layers(self.graph)
        self.means = ChannelMeans(model, self.layers, tensors, threads=threads)
        self.statistics = calibration.statistics
        self._ranges: dict[RangeRule, TensorRanges] = {}

    def ranges(self, rule: RangeRule) -> TensorRanges:
        """Return the ranges of its tensors by a rule."""
        return self._ranges.setdefault(rule, TensorRanges(self.statistics, rule))
