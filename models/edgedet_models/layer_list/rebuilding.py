"""Rebuild a pickled module tree by class names; what may stand in it, a family says with its builders."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.leaves import LEAVES
from edgedet_runtime.errors import CheckpointError

__all__ = ["Block", "Parts", "rebuild_tree"]

Parts = dict[str, nn.Module]
Block = Callable[[str, ModuleNode, Parts], nn.Module]
"""Builds a block from its dotted name, its node and its submodules, which are built already and become the block's."""


def rebuild_tree(
    name: str,
    node: ModuleNode,
    choose: Callable[[ModuleNode], Block | None],
    *,
    own_tensors: frozenset[str] = frozenset(),
    dropped: Callable[[ModuleNode, str], bool] = lambda node, key: False,
) -> nn.Module:
    """Rebuild a pickled module and all below it, in float32.

    Args:
        name: Dotted name, for messages.
        node: The pickled module.
        choose: Gives the builder of a block; None where its class is not known.
        own_tensors: Names of tensors that blocks may hold themselves, beside their submodules.
        dropped: Tells of a node and the name of a submodule whether it is left out.

    Raises:
        CheckpointError: A class that is not known, or a module that does not fit its class.
    """
    leaf = LEAVES.get(node.type_name)
    if leaf is not None and not node.children:
        return leaf(name, node)
    block = choose(node)
    if block is None:
        raise CheckpointError(f"{name}: layers of class {node.class_path} are not supported")
    for key, tensor in [*node.parameters.items(), *node.buffers.items()]:
        if tensor is not None and key not in own_tensors:
            raise CheckpointError(
                f"{name} ({node.type_name}): tensor {key!r} is not expected; the file is damaged or of another kind"
            )
    parts = {
        key: rebuild_tree(f"{name}.{key}" if name else key, child, choose, own_tensors=own_tensors, dropped=dropped)
        for key, child in node.children.items()
        if not dropped(node, key)
    }
    return block(name, node, parts)
