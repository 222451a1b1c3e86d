"""Cross-layer equalization: bring the channels of a tensor to like ranges before one 8-bit grid spans them all.

Where a channel passes from convolution to convolution through nothing but operations f with f(a x) = a f(x) for a > 0
(ReLU, pooling, resizing, concatenation, residual addition), the first may be divided and the second multiplied by any
factor: the network stays the same function, but a channel whose values are a hundredth of its neighbor's no longer
has two or three of the 256 codes to itself. Networks whose BatchNorms were folded, reparameterized ones (RepVGG) above
all, are full of such channels.

The factor of a channel is s = x^p / w^(1 - p), with x its largest value and w its largest weight in the convolutions
that read it, both relative to the largest of their tensor. With p = 1/2, sqrt(x / w), activations and weights have
equal shares of the imbalance afterwards. (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019, section 4.1, with measured ranges in place of those of the producer's weights, which are quantized
per channel here.)

Behind SiLU and its like, which are not homogeneous, the division cannot move into the convolution before. There it may
stand as a multiplication of its own (`smooth`), which OpenVINO computes within the convolution's kernel and
onnxruntime in one more pass. (Xiao et al., "SmoothQuant", 2023, do this for linear layers.) There p = 1/4, which weighs
the weights more: of p from 1/4 to 3/4 it kept most AP of a trained YOLOX-nano, with all others within noise of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.graph.edits import NewTensors, by_name, set_input
from edgedet_export.graph.values import constant, name_of
from edgedet_export.graph.walks import nodes_of
from edgedet_export.onnx_passes import OnnxPass, PassRecord, run_passes
from edgedet_export.quantize.channel_links import ChannelLinks, channel_factors
from edgedet_export.quantize.layers import ConvLayer, find_layers
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.smooth import RemoveFactors, insert_factors

__all__ = ["Equalized", "Form", "ScaleChannels", "equalize"]

Floats = npt.NDArray[np.float64]
Form = Literal["plain", "equalized", "smoothed"]
"""The network as it is; with channels equalized where that costs nothing; or also behind activations that need a
multiplication for it."""

_POWER, _SMOOTH_POWER = 0.5, 0.25
_LEAST_FACTOR = 2.0**-10  # of a channel that is all but dead
_WORTH_IT = 2.0  # factors all within this of each other change nothing that 8 bits could show


@dataclass(frozen=True, slots=True, eq=False)
class Equalized:
    """An equalized model.

    Attributes:
        model: Computes the same function.
        channels: How many channels of convolutions' inputs got a factor.
        spread: Largest factor over the smallest, that of channels which got none counted as 1.
    """

    model: ir.Model
    channels: int
    spread: float


def equalize(model: ir.Model, statistics: Mapping[str, TensorStatistics], *, smooth: bool = False) -> Equalized | None:
    """Equalize the channels of a model's convolutions.

    Args:
        model: FP32, with shapes inferred; not changed.
        statistics: Of its tensors, from calibration.
        smooth: Multiply by factors of their own behind activations that are not homogeneous.

    Returns:
        The model with other weights and biases, and, if `smooth`, with such multiplications; names and all else are
        untouched. None where no channel is free to be scaled or all are alike already, and for `smooth` where no
        multiplication is worth it.
    """
    model = model.clone()
    inserted = insert_factors(model) if smooth else {}
    known = {**statistics, **{new: statistics[old] for new, old in inserted.items() if old in statistics}}
    layers = find_layers(model.graph)
    links = ChannelLinks(model.graph)
    factors = _factors(model.graph, layers, links, known, _SMOOTH_POWER if smooth else _POWER)
    idle = [name for name in inserted if _spread(factors[links.groups(name)]) < _WORTH_IT]
    for name in idle:
        factors[links.groups(name)] = 1.0
    idle = [name for name in inserted if (factors[links.groups(name)] == 1.0).all()]
    if _spread(factors) < _WORTH_IT or (smooth and len(idle) == len(inserted)):
        return None
    run_passes(model, [ScaleChannels(layers, links, factors), RemoveFactors(idle)])
    return Equalized(model, int((factors != 1.0).sum()), _spread(factors))


class ScaleChannels(OnnxPass):
    """Put factors of channels into the convolutions and multiplications on both sides; the function stays the same."""

    name = "scale-channels"

    def __init__(self, layers: tuple[ConvLayer, ...], links: ChannelLinks, factors: Floats) -> None:
        """Take the graph's convolutions, which channels belong together, and each group's factor, float64 (total,)."""
        self._layers = layers
        self._links = links
        self._factors = factors

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Scale in place."""
        new, values = NewTensors(model.graph), by_name(model.graph)
        for layer in self._layers:
            if layer.op_type != "Conv" or layer.data not in self._links:
                record.decline(layer.id, "the channels around it are not known, or it is transposed")
                continue
            before, after = (self._factors[self._links.groups(name)] for name in (layer.data, layer.id))
            if (before != 1).any() or (after != 1).any():
                _rescale(new, values, layer, before, after)
                record.change(layer.id, "weights scaled by channel")
        for node in nodes_of(model.graph, "Mul"):
            if _rescale_product(new, node, self._links, self._factors):
                record.change(node.outputs[0], "factors scaled by channel")


def _factors(
    graph: ir.Graph,
    layers: tuple[ConvLayer, ...],
    links: ChannelLinks,
    statistics: Mapping[str, TensorStatistics],
    power: float,
) -> Floats:
    """Return the factor of each group of channels, float64; 1 where it must be."""
    reach, weight = np.zeros(links.total), np.zeros(links.total)
    values_by_name = by_name(graph)
    for layer in layers:
        found = statistics.get(layer.data)
        if layer.op_type != "Conv" or found is None or layer.data not in links:
            continue
        groups = links.groups(layer.data)
        values = np.maximum(np.abs(found.channel_low), np.abs(found.channel_high))
        if values.max() > 0:
            np.maximum.at(reach, groups, values / values.max())
            np.maximum.at(weight, groups, _relative_weights(values_by_name[layer.weight], layer))
    known = links.free & (weight > 0)
    factors = np.ones(links.total)
    wanted = reach[known] ** power / weight[known] ** (1 - power)
    factors[known] = np.clip(wanted, _LEAST_FACTOR, 1 / _LEAST_FACTOR)
    return factors


def _relative_weights(weights: ir.Value, layer: ConvLayer) -> Floats:
    """Return each input channel's largest weight, relative to the largest of the same output channel; float64 (C,)."""
    value = constant(weights)
    assert value is not None, "a ConvLayer has constant weights"
    size = np.abs(value.astype(np.float64)).max(axis=tuple(range(2, value.ndim)))
    largest = size.max(axis=1, keepdims=True)
    relative = np.divide(size, largest, out=np.zeros_like(size), where=largest > 0)
    outputs, inputs = size.shape
    return np.asarray(relative.reshape(layer.groups, outputs // layer.groups, inputs).max(axis=1).ravel())


def _rescale(new: NewTensors, values: Mapping[str, ir.Value], layer: ConvLayer, before: Floats, after: Floats) -> None:
    """Multiply the weights by the factors of the input channels and divide them by those of the output channels."""
    node, weight = values[layer.id].producer(), constant(values[layer.weight])
    assert node is not None, "a layer's id is its output"
    assert weight is not None, "a ConvLayer has constant weights"
    inputs = np.repeat(np.split(before, layer.groups), len(weight) // layer.groups, axis=0)
    scaled = weight.astype(np.float64) * inputs[:, :, None, None] / after[:, None, None, None]
    # Under names of its own: heads may share their weights between levels.
    set_input(node, 1, new.constant(f"{layer.id}/equalized", scaled.astype(np.float32)))
    if layer.bias is not None:
        bias = constant(values[layer.bias])
        assert bias is not None, "linked only where it is constant"
        balanced = (bias.astype(np.float64) / after).astype(np.float32)
        set_input(node, 2, new.constant(f"{layer.id}/equalized_bias", balanced))


def _rescale_product(new: NewTensors, node: ir.Node, links: ChannelLinks, factors: Floats) -> bool:
    """Put the factors of both sides into a multiplication of channels by constants; return whether there were any."""
    constants, made = channel_factors(node), name_of(node.outputs[0])
    names = [name_of(value) for value in node.inputs if value is not None]
    data = next((name for name in names if name in links), None)
    if constants is None or data is None:
        return False
    before, after = factors[links.groups(data)], factors[links.groups(made)]
    if (before == 1).all() and (after == 1).all():
        return False
    scaled = constants.ravel().astype(np.float64) * before / after
    index = 1 - names.index(data)
    set_input(node, index, new.constant(f"{made}_equalized", scaled.astype(np.float32).reshape(constants.shape)))
    return True


def _spread(factors: Floats) -> float:
    """Return the largest factor over the smallest, 1 of none."""
    return float(factors.max() / factors.min()) if len(factors) else 1.0
