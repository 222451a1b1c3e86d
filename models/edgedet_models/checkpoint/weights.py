"""Which weights of a checkpoint are the ones to use, wherever and however training wrapped them.

The average of the weights (EMA, SWA) is what training evaluates and what is meant to be used; it is taken before the
plain weights, under whatever name it lies. mmengine is the exception: it swaps the two when it saves, so its
``state_dict`` is the average and its ``ema_state_dict`` the plain weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from edgedet_models.checkpoint.budget import MalformedPickle, ReadBudget
from edgedet_models.checkpoint.leftovers import settle
from edgedet_models.checkpoint.module_tree import ModuleNode, PickledObject
from edgedet_models.checkpoint.prefixes import bare
from edgedet_runtime.errors import CheckpointError

__all__ = ["Weights", "find_weights"]

AVERAGES = frozenset(
    ["ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "params_ema", "swa_model", "avg_model"]
)
PLAIN = ("model", "state_dict", "model_state_dict", "net", "weights", "params", "module")
SKIPPED = frozenset(
    [
        *("amp", "callbacks", "criterion", "feature_loss", "hyper_parameters"),
        *("loss", "lr_scheduler", "lr_schedulers", "message_hub", "meta"),
        *("optimizer", "optimizer_states", "optimizers", "param_schedulers", "scaler"),
        *("scheduler", "teacher"),
    ]
)
WRAPPER_CLASSES = ("AveragedModel", "DataParallel", "DistributedDataParallel", "OptimizedModule")
MAX_DEPTH = 3
UNKNOWN = len(PLAIN) + 2
"""Rank of weights under a name that says nothing."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights that were taken.

    Attributes:
        tensors: Parameters and buffers by name, without wrappers' prefixes.
        module: The pickled module that they belong to, or None for a bare state dict.
        taken: Where they lay, such as ``ema.module``; empty where the file itself is the state dict.
        left: Where other weights lay.
        is_average: Whether they lay under a name of an average.
    """

    tensors: Mapping[str, Tensor]
    module: ModuleNode | None
    taken: str
    left: tuple[str, ...]
    is_average: bool

    @property
    def words(self) -> str:
        """What was taken and what was left, for a person to read."""
        kind = "the average" if self.is_average else "weights"
        found = f"{kind} under {self.taken}" if self.taken else "weights at the top level"
        return f"{found}; left: {', '.join(self.left)}" if self.left else found


@dataclass(frozen=True, slots=True)
class _Place:
    path: tuple[str, ...]
    value: Any
    rank: int

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def read(self, budget: ReadBudget) -> Weights:
        """Return the weights here; no others are left by that, except under other prefixes."""
        if ModuleNode.is_module(self.value):
            node = _unwrapped(ModuleNode.wrap(self.value, budget))
            return Weights(node.state_dict(), node, self.name, (), is_average=self.rank == 0)
        named = {k: v for k, v in self.value.items() if isinstance(k, str) and isinstance(v, Tensor)}
        found = bare(settle(named, budget), AVERAGES)
        name = f"{self.name}.{found.average}".strip(".") if found.average else self.name
        left = tuple(f"{self.name or 'top level'}: {words}" for words in found.left)
        return Weights(found.tensors, None, name, left, is_average=self.rank == 0 or bool(found.average))


def find_weights(content: Any, budget: ReadBudget) -> Weights:
    """Return the weights that training meant to be used; empty where a file holds none.

    Args:
        content: Top-level object of a checkpoint.
        budget: What this may take.

    Raises:
        CheckpointError: A pickled module has no end, or the file unfolds into far more than its size allows.
    """
    places = _places(content, _is_mmengine(content))
    if not places:
        return Weights({}, None, "", (), is_average=False)
    best, others = places[0], places[1:]
    try:
        found = best.read(budget)
        plain = next((place for place in others if 0 < place.rank < UNKNOWN), None)
        if found.is_average and found.module is None and plain is not None:
            completed = _completed(found, plain.read(budget))
            if completed is None:
                best, others = plain, [best, *(place for place in others if place is not plain)]
                found = plain.read(budget)
            else:
                found = completed
    except MalformedPickle as e:
        raise CheckpointError(f"weights: {e}") from None
    return replace(found, left=(*found.left, *(place.name or "the top level" for place in others)))


def _completed(average: Weights, plain: Weights) -> Weights | None:
    """Put an average's tensors into the plain weights, of which it may hold the parameters alone.

    Returns:
        The plain module or state dict with the average's values. None for a module that it does not fit. A state dict
        that does not fit leaves the average as it is.
    """
    own = plain.tensors
    fits = all(name in own and own[name].shape == tensor.shape for name, tensor in average.tensors.items())
    if plain.module is None:
        return replace(average, tensors={**own, **average.tensors}) if fits else average
    learned = {
        f"{p}.{n}".removeprefix(".")
        for p, node in plain.module.walk()
        for n, t in node.parameters.items()
        if t is not None
    }
    if not fits or not learned <= set(average.tensors):
        return None
    node = plain.module.with_tensors(average.tensors)
    return replace(average, tensors=node.state_dict(), module=node)


def _is_mmengine(content: Any) -> bool:
    meta = content.get("meta") if isinstance(content, Mapping) else None
    return isinstance(meta, Mapping) and ("mmengine_version" in meta or "message_hub" in content)


def _places(content: Any, swapped: bool) -> list[_Place]:
    """Return everything that holds weights, the likeliest first; what a file names many times is looked at once."""
    found: list[_Place] = []
    seen: set[int] = set()
    waiting: list[tuple[Any, tuple[str, ...]]] = [(content, ())]
    while waiting:
        value, path = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, tuple) and value:  # YOLOv5 around v5.0 saved (ema, updates)
            value = value[0]
        if isinstance(value, PickledObject) and not ModuleNode.is_module(value):
            value = value.state
        if ModuleNode.is_module(value):
            found.append(_Place(path, value, _rank(path, swapped)))
        elif isinstance(value, Mapping):
            if any(isinstance(k, str) and isinstance(v, Tensor) and v.dim() > 0 for k, v in value.items()):
                found.append(_Place(path, value, _rank(path, swapped)))
            if len(path) < MAX_DEPTH:
                below = [(k, v) for k, v in value.items() if isinstance(k, str) and k not in SKIPPED]
                waiting += [(v, (*path, k)) for k, v in reversed(below) if not isinstance(v, (Tensor, str, int, float))]
    return sorted(found, key=lambda place: place.rank)


def _rank(path: tuple[str, ...], swapped: bool) -> int:
    """Return 0 for an average, then plain weights by their usual names, then the top level, then unknown names."""
    if any(part in AVERAGES for part in path):
        return UNKNOWN if swapped else 0
    if not path:
        return len(PLAIN) + 1
    return 1 + PLAIN.index(path[0]) if path[0] in PLAIN else UNKNOWN


def _unwrapped(node: ModuleNode) -> ModuleNode:
    while node.type_name in WRAPPER_CLASSES:
        inner = node.children.get("module") or node.children.get("_orig_mod")
        if inner is None:
            break
        node = inner
    return node
