"""Names of tensors without what wrappers put before them, and without tensors that lie beside the network.

DataParallel puts ``module.`` before each name, ``torch.compile`` ``_orig_mod.``, a Lightning module the attribute that
holds the network, such as ``model.`` or ``net.``. Beside the network, a Lightning module may hold a loss with weights
or the state of a metric.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Bare", "bare"]

WRAPPERS = ("_orig_mod.", "_forward_module.", "module.")
OUTER = ("model.", "net.", "network.", "detector.")
NUMBERED = "model."
"""YOLOv5 and its heirs name their list of layers so themselves."""
SHARE = 0.8
"""Least share of the tensors under an outer prefix for the rest to count as beside the network."""
BESIDE = frozenset(["criterion", "loss", "loss_fn", "metric", "metrics", "matcher", "train_metrics", "val_metrics"])


@dataclass(frozen=True, slots=True)
class Bare:
    """What `bare` found.

    Attributes:
        tensors: The network's tensors by its own names.
        average: Prefix under which an average was found and taken, without its dot; else empty.
        left: What was left, in words.
    """

    tensors: dict[str, Tensor]
    average: str
    left: tuple[str, ...]


def bare(tensors: Mapping[str, Tensor], averages: Collection[str]) -> Bare:
    """Return the network's tensors by the names that its own code gives them.

    Args:
        tensors: Tensors of a state dict.
        averages: Prefixes, without dot, under which an average may lie beside the plain weights.
    """
    found, average, left = dict(tensors), "", []
    dotted = {name.replace(".", "_") for name in found}
    shadows = [name for name in found if name.startswith("ema_") and name.removeprefix("ema_") in dotted]
    if shadows:  # mmcv's hook keeps the other set of weights as buffers, and swaps the two before it saves
        left.append(f"{len(shadows)} tensors ema_*")
        found = {name: tensor for name, tensor in found.items() if name not in set(shadows)}
    while found:
        prefix = next((p for p in WRAPPERS if all(name.startswith(p) for name in found)), None)
        if prefix is None and not average:
            average = next((a for a in sorted(averages) if any(name.startswith(f"{a}.") for name in found)), "")
            prefix = f"{average}." if average else None
        if prefix is None:
            prefix = next((p for p in OUTER if _is_outer(p, found)), None)
        if prefix is None:
            break
        found = _inside(prefix, found, left)
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    if _share(NUMBERED, found) >= SHARE:
        found = _inside(NUMBERED, found, left)
    beside = sorted({name.partition(".")[0] for name in found} & BESIDE)
    if beside:
        left.append(", ".join(beside))
        found = {name: tensor for name, tensor in found.items() if name.partition(".")[0] not in BESIDE}
    return Bare(found, average, tuple(left))


def _inside(prefix: str, tensors: Mapping[str, Tensor], left: list[str]) -> dict[str, Tensor]:
    """Return the tensors under a prefix, by their full names; say what lies beside them."""
    beside = sorted({name.partition(".")[0] for name in tensors if not name.startswith(prefix)})
    if beside:
        left.append(f"{', '.join(beside)} beside {prefix[:-1]}")
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _share(prefix: str, tensors: Mapping[str, Tensor]) -> float:
    return sum(name.startswith(prefix) for name in tensors) / max(len(tensors), 1)


def _is_outer(prefix: str, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether the network lies under a prefix; a numbered list of layers under ``model.`` is its own name."""
    numbered = any(name.startswith(prefix) and name[len(prefix) :][:1].isdigit() for name in tensors)
    return not numbered and _share(prefix, tensors) >= SHARE
