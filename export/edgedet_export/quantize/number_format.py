"""How CPUs multiply 8-bit numbers, and the grids that follow from it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgedet_runtime.cpu import cpu_features

__all__ = ["NUMBER_FORMATS", "CpuKind", "NumberFormat", "this_cpu"]

CpuKind = Literal["vnni", "avx2", "dotprod", "neon"]


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How numbers are stored in 8 bits.

    Attributes:
        activations: ``uint8`` with a zero point, or ``int8`` with one.
        weight_limit: Largest magnitude of a weight: 127, or 63 where products of full-range numbers saturate.
    """

    activations: Literal["uint8", "int8"]
    weight_limit: int


NUMBER_FORMATS: Mapping[CpuKind, NumberFormat] = {
    "vnni": NumberFormat("uint8", 127),
    "avx2": NumberFormat("uint8", 63),
    "dotprod": NumberFormat("int8", 127),
    "neon": NumberFormat("int8", 127),
}
"""For engines that use the instructions of a CPU as they are.

x86 multiplies unsigned by signed bytes. VNNI adds the products in 32 bits; plain AVX2 (vpmaddubsw) adds two of them in
16 bits, which 255 * 127 * 2 overflows, so weights get one bit less there. ARM's dot product takes equal signs.
"""


def this_cpu() -> CpuKind:
    """Return the kind of the CPU that this runs on."""
    features = cpu_features()
    if platform.machine().lower() in ("aarch64", "arm64", "armv7l", "armv8l"):
        return "dotprod" if "dotprod" in features else "neon"
    return "vnni" if "vnni" in features else "avx2"
