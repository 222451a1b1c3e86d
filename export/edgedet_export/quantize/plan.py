"""QuantPlan: which tensors get which 8-bit grid, which layers multiply in INT8, and what stays in float and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgedet_export.quantize.number_format import NumberFormat
from edgedet_export.quantize.ranges import Range

__all__ = ["BiasForm", "Grid", "KeptFloat", "QuantPlan"]

BiasForm = Literal["int32", "float32"]
"""Added to the sum of products, on the grid input scale * weight scale; or added after that in float."""


@dataclass(frozen=True, slots=True)
class Grid:
    """An affine 8-bit grid: value = (code - zero_point) * scale.

    Attributes:
        scale: Step, positive, a float32 value.
        zero_point: Code of the value zero.
        signed: int8 codes, else uint8.
    """

    scale: float
    zero_point: int
    signed: bool

    @classmethod
    def spanning(cls, bounds: Range, number_format: NumberFormat) -> Grid:
        """Return the grid whose 256 codes span a range that contains zero."""
        low, high = bounds
        signed = number_format.activations == "int8"
        scale = float(np.float32(max((high - low) / 255, 1e-12)))
        zero = round(-low / scale)
        return cls(scale, zero - 128 if signed else zero, signed)

    @classmethod
    def exact_bytes(cls, number_format: NumberFormat) -> Grid:
        """Return the grid on which 0..255 are exact."""
        signed = number_format.activations == "int8"
        return cls(1.0, -128 if signed else 0, signed)

    @property
    def is_byte(self) -> bool:
        """The code is the value."""
        return self.scale == 1.0 and self.zero_point == 0 and not self.signed


@dataclass(frozen=True, slots=True)
class KeptFloat:
    """A layer that stays in float.

    Attributes:
        layer: Its id.
        reason: Why, in words.
        macs: Its multiply-accumulates.
    """

    layer: str
    reason: str
    macs: int


@dataclass(frozen=True, slots=True)
class QuantPlan:
    """Everything that decides a quantized file, except the weights' values.

    Attributes:
        grids: Tensor → its 8-bit grid.
        everywhere: Tensors of `grids` that all readers see quantized; the others are quantized for INT8 layers only.
        layers: Ids of the layers that multiply in INT8.
        integer_products: Those of `layers` that give float outputs from an integer matrix product.
        kept: Layers that stay in float.
        number_format: Of activations and weights.
        bias: Form of the layers' biases.
        copied_upsampling: Nearest upsampling between tensors on one grid copies codes (see `integer_islands`).
    """

    grids: Mapping[str, Grid]
    everywhere: frozenset[str]
    layers: tuple[str, ...]
    integer_products: tuple[str, ...]
    kept: tuple[KeptFloat, ...]
    number_format: NumberFormat
    bias: BiasForm
    copied_upsampling: bool
