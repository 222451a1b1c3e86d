"""Detection heads whose boxes, objectness and scores leave by separate convolutions.

Official anchor heads have one convolution of A * (5 + classes) channels per level, ordered by anchor, then
x, y, w, h, objectness, classes. A convolution's output channels are independent of each other, so sorting its
rows into three convolutions changes no number and no parameter count; it keeps pixel distances and logits
apart in separate tensors, which quantisers need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgedet_models.layers.implicit import ImplicitAdd, ImplicitMultiply
from edgedet_runtime.errors import CheckpointError

__all__ = ["AnchorHead", "SplitConv", "split_channels", "split_tensors"]

PARTS = ("boxes", "objectness", "scores")
OBJECTS_PER_PICTURE = 8
"""Objects in a picture of 640 px that an untrained head expects, for the bias (YOLOv5's initialisation)."""


def split_channels(anchors: int, classes: int, *, scores: bool = True) -> dict[str, Tensor]:
    """Return, for each part, the rows of the official convolution in the order of the part's channels.

    Args:
        anchors: Anchors per cell, A.
        classes: Classes, C.
        scores: False leaves the scores out.

    Returns:
        int64 indices: ``boxes`` (4 A), ``objectness`` (A), ``scores`` (A C).
    """
    rows = torch.arange(anchors * (5 + classes), device="cpu").reshape(anchors, 5 + classes)
    parts = {"boxes": rows[:, :4], "objectness": rows[:, 4:5], "scores": rows[:, 5:]}
    return {name: part.reshape(-1) for name, part in parts.items() if scores or name != "scores"}


def split_tensors(
    tensors: Mapping[str, Tensor], prefix: str, anchors: int, classes: int, *, scores: bool = True
) -> dict[str, Tensor]:
    """Replace an official head's tensors by those of `AnchorHead`, exactly.

    Handled are ``m.<level>.weight`` and ``.bias``, and YOLOv7's ``ia.<level>.implicit`` and
    ``im.<level>.implicit`` below `prefix`; other tensors pass unchanged.

    Args:
        tensors: A state dict.
        prefix: Name of the head with a dot, such as ``model.24.``.
        anchors: Anchors per cell.
        classes: Classes.
        scores: False drops the rows of the scores.

    Raises:
        CheckpointError: A tensor has other than A * (5 + C) channels.
    """
    rows = split_channels(anchors, classes, scores=scores)
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.removeprefix(prefix).partition(".")
        level, _, field = rest.partition(".")
        if not name.startswith(prefix) or not level.isdigit():
            result[name] = tensor
            continue
        if kind == "im" or (kind == "m" and field in ("weight", "bias")):
            _check_rows(name, tensor, 1 if kind == "im" else 0, anchors * (5 + classes))
        if kind == "m" and field in ("weight", "bias"):
            result |= {f"{prefix}m.{level}.{part}.{field}": tensor[index] for part, index in rows.items()}
        elif kind == "ia":
            result[f"{prefix}m.{level}.ia.{field}"] = tensor
        elif kind == "im":
            factors = f"{prefix}m.{level}.im_"
            result |= {f"{factors}{part}.{field}": tensor[:, index] for part, index in rows.items()}
        else:
            result[name] = tensor
    return result


def _check_rows(name: str, tensor: Tensor, dim: int, rows: int) -> None:
    if tensor.dim() <= dim or tensor.shape[dim] != rows:
        raise CheckpointError(f"{name}: expected {rows} channels, got shape {tuple(tensor.shape)}")


class SplitConv(nn.Module):
    """The 1×1 convolutions of one level, with implicit layers before and behind where the head has them."""

    def __init__(self, c_in: int, anchors: int, classes: int, *, implicit: bool, scores: bool) -> None:
        """Build; the arguments are those of `AnchorHead`."""
        super().__init__()
        parts = split_channels(anchors, classes, scores=scores)
        self.ia: nn.Module = ImplicitAdd(c_in) if implicit else nn.Identity()
        for part, rows in parts.items():
            self.add_module(part, nn.Conv2d(c_in, len(rows), 1))
        for part, rows in parts.items():
            self.add_module(f"im_{part}", ImplicitMultiply(len(rows)) if implicit else nn.Identity())
        self.parts = tuple(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (N, c_in, h, w) to boxes (N, 4 A, h, w), objectness (N, A, h, w), scores (N, A C, h, w)."""
        x = self.ia(x)
        return tuple(getattr(self, f"im_{part}")(getattr(self, part)(x)) for part in self.parts)


class AnchorHead(nn.Module):
    """YOLOv5's and YOLOv7's anchor head: one `SplitConv` per level, raw outputs in the order of the levels.

    Official checkpoints load into it: ``load_state_dict`` sorts their rows into the parts.
    """

    def __init__(
        self,
        channels: Sequence[int],
        anchors: int,
        classes: int,
        *,
        implicit: bool = False,
        scores: bool = True,
    ) -> None:
        """Build for the channels of the levels.

        Args:
            channels: Input channels per level, finest first.
            anchors: Anchors per cell.
            classes: Classes.
            implicit: Whether it has YOLOv7's implicit layers.
            scores: False where a single class is scored by objectness alone; it has no such outputs then.
        """
        super().__init__()
        self.anchors = anchors
        self.classes = classes
        self.scores = scores
        self.m = nn.ModuleList(SplitConv(c, anchors, classes, implicit=implicit, scores=scores) for c in channels)
        self.register_load_state_dict_pre_hook(_split_official)  # type: ignore[no-untyped-call]

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.m)

    def forward(self, xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map one (N, C_i, h_i, w_i) per level to the raw outputs of all levels, flat."""
        return tuple(out for conv, x in zip(self.m, xs, strict=True) for out in conv(x))

    def reset_bias(self, strides: Sequence[int]) -> None:
        """Start training from rare objects: sigmoid(bias) is the expected share of hits.

        Args:
            strides: Input pixels per cell of each level.
        """
        with torch.no_grad():
            for conv, stride in zip(self.m, strides, strict=True):
                assert isinstance(conv, SplitConv), "built so"
                prior = {
                    "objectness": OBJECTS_PER_PICTURE / (640 / stride) ** 2,
                    "scores": 0.6 / (self.classes - 0.99999),
                }
                for part, expected in prior.items():
                    bias = getattr(getattr(conv, part, None), "bias", None)
                    if bias is not None:
                        bias.fill_(math.log(expected))


def _split_official(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Sort the rows of an official head's convolutions, before they are loaded."""
    assert isinstance(module, AnchorHead), "registered by it"
    official = [name for name in state if name.startswith(prefix)]
    tensors = {name: state.pop(name) for name in official}
    split = split_tensors(tensors, prefix, module.anchors, module.classes, scores=module.scores)
    anchors = (f"{prefix}anchors", f"{prefix}anchor_grid")  # the spec holds them
    state.update({name: tensor for name, tensor in split.items() if name not in anchors})
