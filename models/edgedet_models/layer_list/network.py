"""A detector that is a list of layers with from-indices, ending in a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_models.layers.distance_head import DistanceHead
from edgedet_models.layers.head import AnchorHead
from edgedet_models.shapes_only import norms_passed_through
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import ModelSpec

__all__ = ["LayerListDetector", "Wiring", "measure_strides", "run_layers"]

PROBE_PX = 128
"""Input size that shows the strides; a multiple of 64, the largest stride in use."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a layer reads.

    Attributes:
        sources: Indices of earlier layers; -1 is the network's input; none for a layer that is left out.
        many: Whether the layer takes a list, even of one.
    """

    sources: tuple[int, ...]
    many: bool

    @classmethod
    def resolve(cls, source: int | Sequence[int], index: int) -> Wiring:
        """Make a from-field (relative where negative) absolute for the layer at `index`.

        Raises:
            CheckpointError: It points to no earlier layer.
        """
        relative = [source] if isinstance(source, int) else list(source)
        if not all(type(s) is int for s in relative) or not relative:
            raise CheckpointError(f"layer {index}: from: expected layer numbers, got {source!r:.60}")
        sources = tuple(s + index if s < 0 else s for s in relative)
        if not all(-1 <= s < index for s in sources):
            raise CheckpointError(f"layer {index}: from: expected earlier layers, got {source!r:.60}")
        return cls(sources, not isinstance(source, int))


def run_layers(layers: Sequence[nn.Module], wiring: Sequence[Wiring], x: Tensor) -> tuple[Tensor, ...]:
    """Run the layers; the last one is the head, whose outputs are returned.

    A layer's output is forgotten after its last reader.
    """
    last = {source: index for index, wire in enumerate(wiring) for source in wire.sources}
    kept: dict[int, Any] = {-1: x}  # a layer may give several tensors to one that joins
    for index, (layer, wire) in enumerate(zip(layers, wiring, strict=True)):
        if not wire.sources:
            continue
        inputs = [kept[s] for s in wire.sources]
        result = layer(inputs if wire.many else inputs[0])
        if index == len(layers) - 1:
            return tuple(result)
        kept[index] = result
        kept = {k: v for k, v in kept.items() if last.get(k, -1) > index}
    raise ValueError("a network without layers")


def measure_strides(layers: Sequence[nn.Module], wiring: Sequence[Wiring], channels: int = 3) -> list[int]:
    """Run the layers once on a small picture of `channels` channels and return the stride of each level.

    Raises:
        CheckpointError: The layers do not fit together.
    """
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.eval()
    probe = torch.zeros(1, channels, PROBE_PX, PROBE_PX)
    try:
        with torch.no_grad(), norms_passed_through(layers if probe.is_meta else ()):
            raw = run_layers(layers, wiring, probe)
    except (IndexError, RuntimeError, TypeError, ValueError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise CheckpointError(f"its layers do not fit together: {reason}") from None
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.train(mode)
    head = layers[-1]
    assert isinstance(head, (AnchorHead, DistanceHead)), "the last layer is the head"
    per_level = len(raw) // head.levels
    return [PROBE_PX // out.shape[2] for out in raw[::per_level]]


class LayerListDetector(DetectorModule):
    """The network; its keys are ``model.<index>.…``, as in the official checkpoints.

    Attributes:
        model: The layers; the last is the head.
        wiring: What each layer reads.
    """

    def __init__(self, spec: ModelSpec, layers: Sequence[nn.Module], wiring: Sequence[Wiring]) -> None:
        """Keep the layers."""
        super().__init__(spec)
        self.model = nn.ModuleList(layers)
        self.wiring = tuple(wiring)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (N, 3, H, W) to the raw outputs of the head, in the order of ``spec.decode.output_names``."""
        return run_layers(list(self.model), self.wiring, x)
