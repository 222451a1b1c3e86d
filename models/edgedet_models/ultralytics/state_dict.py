"""Published networks from bare state dicts, by their keys and shapes.

A state dict holds no activation, no sum and no number of attention heads: those of the published network are taken. So
a pickled file is the better source; in particular one that Ultralytics 8.4.0 to 8.4.140 trained has no activation in
SPPF's first cell, which no key shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgedet_models.checkpoint.strict import IGNORED_SUFFIX, load_strict
from edgedet_models.detector import DetectorModule, HeadName
from edgedet_models.ultralytics.rows import Layout

__all__ = ["MatchedNetwork", "match_networks"]

Builder = Callable[[tuple[str, ...]], DetectorModule]
_CLASS_CHAINS = ("cv3.0.", "one2one_cv3.0.")


@dataclass(frozen=True, slots=True)
class MatchedNetwork:
    """A state dict that a published network fits.

    Attributes:
        variant: The network.
        build_variant: Its builder.
        head: The one head that is left of two; None where all are there.
        class_names: ``class0`` …, as a state dict holds no names.
        tensors: The state dict, its keys starting with ``model.``.
    """

    variant: str
    build_variant: Builder
    head: HeadName | None
    class_names: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    @property
    def evidence(self) -> str:
        """What was found, and what was assumed, for a person to read."""
        return (
            f"state dict with the keys and shapes of {self.variant}; it does not say which activations follow, those of"
            " the published network are taken (a pickled .pt says it)"
        )

    def build(self, path: Path, licence: str) -> DetectorModule:
        """Build the detector with the weights, float32, evaluation mode."""
        model = self.build_variant(self.class_names)
        if self.head is not None:
            model.choose_head(self.head)
        load_strict(model, self.tensors, path=path, what=self.variant)
        model.spec = model.spec.replace(licence=licence)
        return model.eval()


def match_networks(
    layouts: Mapping[str, Callable[[], Layout]], builders: Mapping[str, Builder], tensors: Mapping[str, Tensor]
) -> MatchedNetwork | None:
    """Return the first published network that has a state dict's keys and shapes, or None.

    Args:
        layouts: Architectures by name, to rule most of them out cheaply.
        builders: Builders by the same names.
        tensors: The state dict.
    """
    while tensors and all(name.startswith("model.model.") for name in tensors):
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith("dfl.conv.weight")}
    indices = [int(index) for index in (name.split(".")[1] for name in found if name.count(".") > 1) if index.isdigit()]
    if not indices or not all(name.startswith("model.") for name in found):
        return None
    head = f"model.{max(indices)}."
    classes = _classes(found, head)
    stem = found.get("model.0.conv.weight", found.get("model.1.conv.weight"))
    if not classes or stem is None or not stem.dim():
        return None
    shapes = _shapes(found)
    names = tuple(f"class{i}" for i in range(classes))
    for variant, make in layouts.items():
        rows = make().rows
        first = next(row for row in rows if row.channels)
        if len(rows) != max(indices) or first.channels != len(stem):
            continue
        for chosen, expected in _forms(builders[variant], names):
            if expected == shapes:
                return MatchedNetwork(variant, builders[variant], chosen, names, found)
    return None


def _classes(tensors: Mapping[str, Tensor], head: str) -> int:
    """Return the classes of a head: the rows of the last convolution of a class chain; 0 if there is none."""
    for chain in _CLASS_CHAINS:
        weights = [t for name, t in tensors.items() if name.startswith(head + chain) and name.endswith(".weight")]
        if weights and weights[-1].dim() == 4:
            return len(weights[-1])
    return 0


def _forms(build: Builder, names: tuple[str, ...]) -> Iterator[tuple[HeadName | None, dict[str, torch.Size]]]:
    """Yield the shapes of a network as built, then with one of two heads."""
    with torch.device("meta"):
        model = build(names)
        choices = model.head_choices if len(model.head_choices) > 1 else ()
        yield None, _shapes(model.state_dict())
        for head in choices:
            model = build(names)
            model.choose_head(head)
            yield head, _shapes(model.state_dict())


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(IGNORED_SUFFIX)}
