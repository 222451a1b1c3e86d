"""Objects of a pickle that were never constructed, and the tree that a pickled ``nn.Module`` forms.

Nothing here knows a file format or a family. What tools leave in modules (pruning masks, counters) is settled when
the tree is made, so that a family sees the weights that the network runs with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from edgedet_models.checkpoint.budget import ITEM, MalformedPickle, ReadBudget
from edgedet_models.checkpoint.leftovers import settle
from edgedet_runtime.errors import CheckpointError

__all__ = ["ModuleNode", "PickledObject"]

MAX_MODULES = 20_000
MAX_MODULE_DEPTH = 100


def _named(value: Any) -> dict[str, Tensor | None]:
    """Return the tensors of a module's ``_parameters`` or ``_buffers``."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {n: t for n, t in items if isinstance(n, str) and (t is None or isinstance(t, Tensor))}


@dataclass(slots=True, eq=False)
class PickledObject:
    """An object of a class that was named in a pickle and never imported.

    Attributes:
        class_path: Dotted path as the file names it, such as ``models.common.Conv``.
        args: Arguments of its constructor, as pickled.
        state: What ``__setstate__`` or ``__dict__`` would have received; usually a dict of attributes.
        items: Elements appended or set by the pickle (for pickled lists, dicts and sets of unknown classes).
    """

    class_path: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)

    @property
    def type_name(self) -> str:
        """Last part of the class path."""
        return self.class_path.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class ModuleNode:
    """A pickled ``nn.Module``, seen as a tree; built by `ModuleNode.wrap` from a `PickledObject`.

    Attributes:
        class_path: Dotted path as the file names it.
        attributes: Instance attributes other than parameters, buffers and submodules.
        parameters: Own parameters by name; None where the module registered none.
        buffers: Own buffers by name.
        children: Submodules by name, in registration order.
    """

    class_path: str
    attributes: Mapping[str, Any]
    parameters: Mapping[str, Tensor | None]
    buffers: Mapping[str, Tensor | None]
    children: Mapping[str, ModuleNode]

    @property
    def type_name(self) -> str:
        """Last part of the class path, such as ``Conv``."""
        return self.class_path.rpartition(".")[2]

    @staticmethod
    def is_module(value: object) -> bool:
        """Return whether an object of a checkpoint is a pickled ``nn.Module``."""
        return isinstance(value, PickledObject) and isinstance(value.state, dict) and "_modules" in value.state

    @classmethod
    def wrap(cls, obj: PickledObject, budget: ReadBudget) -> ModuleNode:
        """View a pickled module and all below it as a tree; tensors are shared, except those under a pruning mask.

        Submodules that were None are left out of `children`.

        Args:
            obj: The module as pickled.
            budget: What the tree may take; charged with each module and masked weight.

        Raises:
            CheckpointError: The tree has no end, or far more modules than a network has (a file may name one
                module under many others).
        """
        return cls._wrap(obj, prefix=0, depth=0, modules_left=itertools.count(MAX_MODULES, -1), budget=budget)

    @classmethod
    def _wrap(
        cls, obj: PickledObject, prefix: int, depth: int, modules_left: Iterator[int], budget: ReadBudget
    ) -> ModuleNode:
        if depth > MAX_MODULE_DEPTH or next(modules_left) <= 0:
            raise CheckpointError(
                f"pickled module {obj.class_path}: expected at most {MAX_MODULES} submodules, nested at most"
                f" {MAX_MODULE_DEPTH} deep, got more; the checkpoint is damaged or made to fill the memory"
            )
        try:
            budget.charge(prefix + ITEM * (1 + len(obj.state)))
            state = dict(obj.state)
            parameters = _named(state.pop("_parameters", None))
            buffers = _named(state.pop("_buffers", None))
            both = [*parameters.items(), *buffers.items()]
            settled = settle({name: t for name, t in both if t is not None}, budget)
        except MalformedPickle as e:
            raise CheckpointError(f"pickled module {obj.class_path}: {e}") from None
        buffers = {
            name: t if t is None else settled[name] for name, t in buffers.items() if t is None or name in settled
        }
        empty: dict[str, Tensor | None] = {name: None for name, t in parameters.items() if t is None}
        parameters = empty | {name: t for name, t in settled.items() if name not in buffers}
        modules = state.pop("_modules", None)
        children = {
            name: cls._wrap(child, prefix + len(name), depth + 1, modules_left, budget)
            for name, child in (modules.items() if isinstance(modules, Mapping) else ())
            if isinstance(name, str) and cls.is_module(child)
        }
        return cls(obj.class_path, state, parameters, buffers, children)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, ModuleNode]]:
        """Yield (dotted name, node) for this module (name `prefix`) and all below, depth first."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def with_tensors(self, tensors: Mapping[str, Tensor], prefix: str = "") -> ModuleNode:
        """Return the same tree with other values for the parameters and buffers that `tensors` names."""

        def taken(own: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
            return {name: tensors.get(f"{prefix}{name}", value) for name, value in own.items()}

        children = {name: child.with_tensors(tensors, f"{prefix}{name}.") for name, child in self.children.items()}
        return replace(self, parameters=taken(self.parameters), buffers=taken(self.buffers), children=children)

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and buffers by dotted name, as ``nn.Module.state_dict`` would."""
        result: dict[str, Tensor] = {}
        for prefix, node in self.walk():
            for name, tensor in [*node.parameters.items(), *node.buffers.items()]:
                if tensor is not None:
                    result[f"{prefix}.{name}" if prefix else name] = tensor
        return result
