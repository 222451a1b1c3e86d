"""Which weights of a checkpoint are the ones to use, wherever and however training wrapped them.

The average of the weights (EMA, SWA) is what training evaluates and what is meant to be used; it is taken before the
plain weights, under whatever name it lies. mmengine is the exception: it swaps the two when it saves, so its
``state_dict`` is the average and its ``ema_state_dict`` the plain weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgedet_models.checkpoint.leftovers import settle
from edgedet_models.checkpoint.module_tree import ModuleNode, PickledObject

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
WRAPPERS = ("_orig_mod.", "_forward_module.", "module.")
OUTER = ("model.", "net.", "network.", "detector.")
WRAPPER_CLASSES = ("AveragedModel", "DataParallel", "DistributedDataParallel", "OptimizedModule")
MAX_DEPTH = 3


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

    tensors: dict[str, Tensor]
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


def find_weights(content: Any) -> Weights:
    """Return the weights that training meant to be used; empty where a file holds none.

    Args:
        content: Top-level object of a checkpoint.
    """
    places = sorted(_places(content, (), _is_mmengine(content)), key=lambda place: place.rank)
    if not places:
        return Weights({}, None, "", (), is_average=False)
    best = places[0]
    taken, name = best.value, ".".join(best.path)
    left = [".".join(place.path) or "the top level" for place in places[1:]]
    if ModuleNode.is_module(taken):
        node = _unwrapped(ModuleNode.wrap(taken))
        return Weights(node.state_dict(), node, name, tuple(left), is_average=best.rank == 0)
    tensors = settle({k: v for k, v in taken.items() if isinstance(k, str) and isinstance(v, Tensor)})
    prefix = next((f"{key}." for key in sorted(AVERAGES) if any(k.startswith(f"{key}.") for k in tensors)), None)
    if prefix is not None:
        left.append(f"{name or 'top level'} outside {prefix}*")
        tensors = {k: v for k, v in tensors.items() if k.startswith(prefix)}
        name = f"{name}.{prefix[:-1]}".removeprefix(".")
    is_average = best.rank == 0 or prefix is not None
    return Weights(_bare({k[len(prefix or "") :]: v for k, v in tensors.items()}), None, name, tuple(left), is_average)


def _is_mmengine(content: Any) -> bool:
    meta = content.get("meta") if isinstance(content, Mapping) else None
    return isinstance(meta, Mapping) and ("mmengine_version" in meta or "message_hub" in content)


def _places(value: Any, path: tuple[str, ...], swapped: bool) -> Iterator[_Place]:
    """Yield everything that holds weights."""
    if isinstance(value, tuple) and value:  # YOLOv5 around v5.0 saved (ema, updates)
        value = value[0]
    if ModuleNode.is_module(value):
        yield _Place(path, value, _rank(path, swapped))
        return
    if isinstance(value, PickledObject):
        value = value.state
    if not isinstance(value, Mapping):
        return
    if any(isinstance(k, str) and isinstance(v, Tensor) and v.dim() > 0 for k, v in value.items()):
        yield _Place(path, value, _rank(path, swapped))
    if len(path) < MAX_DEPTH:
        for key, below in value.items():
            if isinstance(key, str) and key not in SKIPPED:
                yield from _places(below, (*path, key), swapped)


def _rank(path: tuple[str, ...], swapped: bool) -> int:
    """Return 0 for an average, then plain weights by their usual names, then the top level, then unknown names."""
    if any(part in AVERAGES for part in path):
        return len(PLAIN) + 2 if swapped else 0
    if not path:
        return len(PLAIN) + 1
    return 1 + PLAIN.index(path[0]) if path[0] in PLAIN else len(PLAIN) + 2


def _unwrapped(node: ModuleNode) -> ModuleNode:
    while node.type_name in WRAPPER_CLASSES:
        inner = node.children.get("module") or node.children.get("_orig_mod")
        if inner is None:
            break
        node = inner
    return node


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that all names share and that no family's own names start with.

    ``model.`` before a number is YOLOv5's own name and stays.
    """
    while tensors:
        prefix = next((p for p in (*WRAPPERS, *OUTER) if all(k.startswith(p) for k in tensors)), None)
        if prefix is None or (prefix in OUTER and all(k[len(prefix) :][:1].isdigit() for k in tensors)):
            return tensors
        tensors = {k[len(prefix) :]: v for k, v in tensors.items()}
    return tensors
