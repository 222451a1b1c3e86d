"""The detector that interprets a plan, and the filling of its weights from darknet's vector."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgedet_models.darknet.blocks import DarknetConv, DarknetHead
from edgedet_models.darknet.plan import NetworkPlan
from edgedet_models.detector import DetectorModule
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import ModelSpec

__all__ = ["DarknetNetwork", "check_length"]


class DarknetNetwork(DetectorModule):
    """A network built from a plan; its layers keep the numbers that they have in the cfg."""

    def __init__(self, plan: NetworkPlan, spec: ModelSpec) -> None:
        """Build an untrained network."""
        super().__init__(spec)
        # A layer may be coarser than all heads, and then decides what sizes can be fed.
        sizes = {layer.shape[1:] for layer in plan.layers} - {(1, 1)}
        self.stride = max([self.stride, *(plan.height // rows for rows, _ in sizes)])
        self.inputs = tuple(layer.inputs for layer in plan.layers)
        self.layers = nn.ModuleList(layer.build() for layer in plan.layers)
        last_reader = {source: i for i, inputs in enumerate(self.inputs) for source in inputs}
        self.released = tuple(
            tuple(source for source, reader in last_reader.items() if reader == i) for i in range(len(self.layers))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return per head, in cfg order, boxes (N, A * 4, h, w), objectness (N, A, h, w) and class logits."""
        outputs: dict[int, Tensor] = {-1: x}
        raw: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            if isinstance(layer, DarknetHead):
                raw += layer(outputs[self.inputs[i][0]])
            elif self.inputs[i]:
                outputs[i] = layer(*(outputs[source] for source in self.inputs[i]))
            for source in self.released[i]:
                del outputs[source]
        return tuple(raw)

    def load_vector(self, plan: NetworkPlan, weights: Tensor) -> None:
        """Fill all weights from the floats of a ``.weights`` file.

        Per convolution in cfg order: biases, then with BatchNorm scales, means and variances, then the
        kernel.

        Args:
            plan: The plan that this network was built from.
            weights: float32 vector without the header, as long as the plan needs.
        """
        assert weights.numel() == plan.floats, "check_length comes first"
        position = 0
        for layer, module in zip(plan.layers, self.layers, strict=True):
            conv = layer.conv
            if conv is None:
                continue
            sizes = [conv.c_out] * (4 if conv.bn else 1)
            kernel = (conv.c_out, conv.c_in // conv.groups, conv.kernel, conv.kernel)
            *vectors, flat = weights[position : position + conv.floats].split([*sizes, conv.floats - sum(sizes)])
            position += conv.floats
            if isinstance(module, DarknetHead):
                for part, rows in zip((module.boxes, module.objectness, module.scores), module.rows(), strict=True):
                    _fill(part, [v[rows] for v in vectors], flat.reshape(kernel)[rows])
            else:
                assert isinstance(module, DarknetConv)
                _fill(module, vectors, flat.reshape(kernel))


def _fill(module: DarknetConv, vectors: list[Tensor], kernel: Tensor) -> None:
    with torch.no_grad():
        module.conv.weight.copy_(kernel)
        if len(vectors) == 1:
            assert module.conv.bias is not None
            module.conv.bias.copy_(vectors[0])
            return
        bn = module.bn
        assert isinstance(bn, nn.BatchNorm2d)
        targets = (bn.bias, bn.weight, bn.running_mean, bn.running_var)
        for target, vector in zip(targets, vectors, strict=True):
            assert target is not None
            target.copy_(vector)


def check_length(plan: NetworkPlan, got: int, path: Path) -> None:
    """Check the length of a weights file before anything is built.

    Args:
        plan: The cfg's plan.
        got: Floats in the file.
        path: The file, for messages.

    Raises:
        CheckpointError: The file is longer or shorter; names the layer in which a short one ends.
    """
    if got == plan.floats:
        return
    source = plan.layers[0].section.source
    if got > plan.floats:
        raise CheckpointError(
            f"{path}: expected {plan.floats} floats for {source}, got {got}: these weights belong to"
            " another cfg (other classes, filters or layers)"
        )
    position = 0
    for layer in plan.layers:
        position += layer.conv.floats if layer.conv is not None else 0
        if position > got:
            raise CheckpointError(
                f"{path}: expected {plan.floats} floats for {source}, got {got}, which end in"
                f" line {layer.section.line}, [{layer.section.kind}]: truncated, or of another cfg"
            )
