"""What pickled models that are a list of layers have in common, whoever wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.network import Wiring
from edgedet_runtime.errors import CheckpointError

__all__ = ["check_strides", "layers_of", "read_wiring", "unwrap", "without_unread"]


def unwrap(node: ModuleNode) -> ModuleNode:
    """Look through wrappers that hold the model as ``model`` (AutoShape, DetectMultiBackend)."""
    while "model" in node.children and "model" in node.children["model"].children:
        node = node.children["model"]
    return node


def layers_of(node: ModuleNode) -> tuple[ModuleNode, ...]:
    """Return the layers of a model, each of which says what it reads (``f``), or none if it is of another kind."""
    layers = tuple(node.children["model"].children.values()) if "model" in node.children else ()
    return layers if all("f" in layer.attributes for layer in layers) else ()


def read_wiring(layers: Sequence[ModuleNode]) -> list[Wiring]:
    """Return what each layer reads.

    Raises:
        CheckpointError: A layer reads what is no earlier layer.
    """
    return [Wiring.resolve(_source(layer, index), index) for index, layer in enumerate(layers)]


def _source(layer: ModuleNode, index: int) -> int | list[int]:
    source = layer.attributes["f"]
    if isinstance(source, (list, tuple)):
        return list(source)
    if type(source) is not int:
        raise CheckpointError(f"layer {index}: from: expected layer numbers, got {source!r:.60}")
    return source


def without_unread(wiring: Sequence[Wiring]) -> list[Wiring]:
    """Empty the sources of layers from which no path leads to the head."""
    needed = {len(wiring) - 1}
    for index in reversed(range(len(wiring))):
        if index in needed:
            needed.update(wiring[index].sources)
    return [wire if i in needed else replace(wire, sources=()) for i, wire in enumerate(wiring)]


def check_strides(node: ModuleNode, head: ModuleNode, strides: Sequence[int]) -> None:
    """Compare measured strides with those that the file holds, in the head or the model.

    Raises:
        CheckpointError: They differ.
    """
    told = head.attributes.get("stride", node.attributes.get("stride"))
    if isinstance(told, Tensor) and [int(s) for s in told.reshape(-1).tolist()] != list(strides):
        raise CheckpointError(f"head: expected strides {told.tolist()}, as the file says, got {strides}")
