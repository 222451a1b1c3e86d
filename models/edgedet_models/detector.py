"""DetectorModule: what every architecture of edgedet is, whatever its family.

A detector is an ``nn.Module`` with two promises:

- ``forward(x)`` takes a float batch (N, 3, H, W) in the network's own convention (colour order, scale, mean, std of
  ``spec.input``) and returns the *raw* head outputs: a flat tuple in the order of ``spec.decode.output_names``,
  each (N, C, h, w), before sigmoid, grid and anchors, in training as in evaluation mode; a set of queries gives
  (N, Q, 4) and (N, Q, classes).
- ``spec`` says everything else: how a picture becomes ``x``, how the raw outputs become boxes.

Box, objectness and class outputs come from separate convolutions (`split_head`), so that no quantiser ever sees pixel
distances and logits in one tensor.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgedet_runtime.errors import ArgumentError
from edgedet_runtime.spec import ModelSpec

__all__ = ["DEFAULT_HEAD", "DetectorModule", "HeadName"]

HeadName = Literal["one-to-one", "one-to-many"]
DEFAULT_HEAD: HeadName = "one-to-one"
"""Taken where a file holds both: a device then needs no suppression, and gets what the networks were published with."""


class DetectorModule(nn.Module):
    """Base of all detectors.

    Attributes:
        spec: The module's contract; ``spec.input`` is float32 NCHW in the network's own colour order and scale, its
            size the default export size.
        stride: Input height and width must be multiples of this.
    """

    spec: ModelSpec
    stride: int = 32

    def __init__(self, spec: ModelSpec) -> None:
        """Keep the contract."""
        super().__init__()
        self.spec = spec
        self.stride = max(level.stride for level in spec.decode.levels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the raw head outputs, flat, in the order of ``spec.decode.output_names``."""
        raise TypeError(f"{type(self).__name__} does not define forward()")

    @property
    def head_choices(self) -> tuple[HeadName, ...]:
        """The heads that can be chosen from; empty where there is only what the family always has."""
        return ()

    def choose_head(self, head: HeadName | None) -> None:
        """Keep one of two heads (YOLOv10, YOLO26) and drop the other.

        Args:
            head: One of `head_choices`; None: `DEFAULT_HEAD` where there are two, the only one else.

        Raises:
            InputError: The network does not have that head.
        """
        if head is not None and head not in self.head_choices:
            had = " or ".join(self.head_choices) or "no choice (one head)"
            raise ArgumentError("head", f"expected {had}, as {self.spec.variant} has, got {head}")

    @property
    def num_parameters(self) -> int:
        """Number of trainable numbers, as the training repositories count them."""
        return sum(p.numel() for p in self.parameters())

    def small_input(self) -> Tensor:
        """Return a zero batch of one of the smallest size on which the module is sure to run."""
        return self.dummy_input((2 * self.stride, 2 * self.stride))

    def dummy_input(self, size_hw: tuple[int, int] | None = None) -> Tensor:
        """Return a zero batch of one in the module's dtype; `size_hw` defaults to the spec's."""
        h, w = size_hw or self.spec.input.size_hw
        like = next(self.parameters())
        return torch.zeros(1, 3, h, w, dtype=like.dtype, device=like.device)
