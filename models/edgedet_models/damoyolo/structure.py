"""What distinguishes one DAMO-YOLO from another, and the official sizes.

TinyNAS backbones come in three designs. ``res`` (T, S) and ``mob`` (nano): a stem and five stages, of which the
fourth keeps the resolution; features leave behind stages 2, 4 and 5. ``csp`` (M, L): the same stages inside
cross-stage wrappers, the third and fourth in one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "SIZES",
    "Block",
    "DamoConfig",
    "Design",
    "Form",
    "Merge",
    "Mobile",
    "Residual",
    "Spp",
    "Stage",
    "Stem",
    "Wrapper",
]

Design = Literal["res", "csp", "mob"]
Form = Literal["rep", "deploy", "plain"]
"""Of a 3×3 convolution: RepConv's branches, RepConv merged, or a plain one."""

STRIDES = (2, 2, 2, 1, 2)


@dataclass(frozen=True, slots=True)
class Stem:
    """The first layer; with `focus` it reads four phases of the picture, else it strides by 2."""

    channels: int
    kernel: int = 3
    focus: bool = True


@dataclass(frozen=True, slots=True)
class Residual:
    """Two convolutions, the first to `hidden` channels, the second with the stride; a shortcut at stride 1."""

    c_in: int
    c_out: int
    hidden: int
    first_kernel: int
    stride: int
    form: Form
    kernel: int = 3


@dataclass(frozen=True, slots=True)
class Mobile:
    """An inverted bottleneck; `gate` as in `MobileBlock`."""

    c_in: int
    c_out: int
    hidden: int
    stride: int
    gate: int | None
    kernel: int = 5


@dataclass(frozen=True, slots=True)
class Spp:
    """Spatial pyramid pooling."""

    channels: int


Block = Residual | Mobile | Spp


@dataclass(frozen=True, slots=True)
class Stage:
    """A sequence of blocks."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A downsampling convolution to `c_down`, then blocks beside a shortcut, both from `c_down`, fused to `c_out`.

    Without blocks the downsampling is all there is.
    """

    c_in: int
    c_down: int
    spp: bool
    blocks: tuple[Block, ...]
    c_start: int
    c_shortcut: int
    c_out: int


@dataclass(frozen=True, slots=True)
class Merge:
    """A CSP stage of the neck: channels inside its blocks, their number, their form (`mob`: inverted bottlenecks)."""

    hidden: int
    blocks: int
    form: Form | Literal["mob"]


@dataclass(frozen=True, slots=True)
class DamoConfig:
    """A whole network.

    Attributes:
        design: Of the backbone.
        stem: First layer.
        stages: Five stages, or four wrappers of design ``csp``.
        neck_in: Channels of the backbone's three features, finest first.
        neck_out: Channels of the neck's three features.
        merges: The neck's stages 3, 4, 5, 7, 6, in the order in which they run.
        bins: Bins per box side.
        head_kernel: Of the head's convolutions.
    """

    design: Design
    stem: Stem
    stages: tuple[Stage | Wrapper, ...]
    neck_in: tuple[int, int, int]
    neck_out: tuple[int, int, int]
    merges: tuple[Merge, Merge, Merge, Merge, Merge]
    bins: int
    head_kernel: int = 3

    @property
    def depthwise(self) -> bool:
        """Whether the neck downsamples by depthwise-separable convolutions."""
        return self.merges[0].form == "mob"

    @property
    def act(self) -> str:
        """Activation that the official configuration of this design has; a state dict does not tell."""
        return "relu" if self.design == "res" else "silu"


def _res_stages(c_in: int, plan: tuple[tuple[int, int, int], ...]) -> tuple[Stage, ...]:
    stages = []
    for number, ((blocks, hidden, c_out), stride) in enumerate(zip(plan, STRIDES, strict=True)):
        parts: list[Block] = []
        for i in range(blocks):
            parts.append(Residual(c_out if i else c_in, c_out, hidden, 1, 1 if i else stride, "rep"))
            if number == 4 and i == 0:
                parts.append(Spp(c_out))
        stages.append(Stage(tuple(parts)))
        c_in = c_out
    return tuple(stages)


def _mob_stages(c_in: int, plan: tuple[tuple[int, int], ...]) -> tuple[Stage, ...]:
    """Stages that widen by 3.5, 4, 4.5, 5 and 5.5 times, to multiples of 8 channels."""
    stages = []
    for number, ((blocks, c_out), stride) in enumerate(zip(plan, STRIDES, strict=True)):
        hidden = (math.ceil(c_out * (3.5 + number / 2)) + 4) // 8 * 8
        parts: list[Block] = []
        for i in range(blocks):
            parts.append(Mobile(c_out if i else c_in, c_out, hidden, 1 if i else stride, gate=0))
            if number == 4 and i == 0:
                parts.append(Spp(c_out))
        stages.append(Stage(tuple(parts)))
        c_in = c_out
    return tuple(stages)


def _wrappers(c_in: int, plan: tuple[tuple[int, int, int], ...]) -> tuple[Wrapper, ...]:
    """Wrap stages (number of 3×3 pairs, hidden channels, output channels); all blocks work on half the channels."""
    wrappers = []
    for number, (blocks, hidden, c_out) in enumerate(plan):
        half = c_out // 2
        inside = tuple(Residual(half, half, hidden, 3, 1, "rep") for _ in range(blocks))
        wrappers.append(Wrapper(c_in, c_out, number == len(plan) - 1, inside, half, half, c_out))
        c_in = c_out
    return tuple(wrappers)


def _merges(
    neck_in: tuple[int, int, int],
    neck_out: tuple[int, int, int],
    blocks: int,
    ratio: float,
    *,
    mobile: bool = False,
) -> tuple[Merge, Merge, Merge, Merge, Merge]:
    def merge(c_out: int) -> Merge:
        middle = c_out - c_out // 2
        return Merge((3 * middle + 4) // 8 * 8, blocks, "mob") if mobile else Merge(int(middle * ratio), blocks, "rep")

    return (
        merge(neck_in[2]),
        merge(neck_in[1]),
        merge(neck_out[0]),
        merge(neck_out[1]),
        merge(neck_out[2]),
    )


def _size(
    design: Design,
    stem: Stem,
    stages: tuple[Stage | Wrapper, ...],
    neck_in: tuple[int, int, int],
    neck_out: tuple[int, int, int],
    blocks: int,
    ratio: float = 1.0,
    head_kernel: int = 3,
) -> DamoConfig:
    mobile = design == "mob"
    merges = _merges(neck_in, neck_out, blocks, ratio, mobile=mobile)
    return DamoConfig(design, stem, stages, neck_in, neck_out, merges, 8 if mobile else 17, head_kernel)


def _nano(stem: int, plan: tuple[tuple[int, int], ...], neck: tuple[int, int, int]) -> DamoConfig:
    """The later nano models: a strided stem instead of Focus, 1×1 convolutions in the head."""
    stages = _mob_stages(stem, plan)
    return _size("mob", Stem(stem, focus=False), stages, neck, neck, 2, head_kernel=1)


_WIDE = (128, 256, 512)
SIZES: Mapping[str, DamoConfig] = {
    "damoyolo-n": _size(
        "mob",
        Stem(16),
        _mob_stages(16, ((2, 40), (2, 80), (2, 112), (2, 112), (1, 160))),
        (80, 112, 160),
        (64, 128, 256),
        2,
    ),
    "damoyolo-ns": _nano(16, ((1, 24), (2, 40), (2, 64), (2, 80), (2, 160)), (40, 80, 160)),
    "damoyolo-nm": _nano(16, ((2, 40), (2, 64), (2, 112), (2, 128), (1, 256)), (64, 128, 256)),
    "damoyolo-nl": _nano(24, ((1, 48), (2, 80), (2, 160), (3, 160), (2, 320)), (80, 160, 320)),
    "damoyolo-t": _size(
        "res",
        Stem(24),
        _res_stages(24, ((2, 24, 64), (2, 64, 96), (2, 96, 192), (2, 152, 192), (1, 192, 384))),
        (96, 192, 384),
        (64, 128, 256),
        3,
    ),
    "damoyolo-s": _size(
        "res",
        Stem(32),
        _res_stages(32, ((1, 24, 128), (5, 88, 128), (3, 128, 256), (2, 120, 256), (1, 144, 512))),
        _WIDE,
        _WIDE,
        3,
        ratio=0.75,
    ),
    "damoyolo-m": _size(
        "csp",
        Stem(32),
        _wrappers(32, ((1, 64, 128), (3, 64, 128), (7, 256, 256), (2, 256, 512))),
        _WIDE,
        _WIDE,
        4,
    ),
    "damoyolo-l": _size(
        "csp",
        Stem(32),
        _wrappers(32, ((2, 96, 128), (4, 96, 128), (9, 384, 256), (3, 384, 512))),
        _WIDE,
        _WIDE,
        6,
    ),
}
"""The official configurations: tinynas L20_N, L18_Ns, L18_Nm, L20_Nl, L20_T, L25_S, L35_M, L45_L."""
