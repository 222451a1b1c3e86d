"""Read a small YAML file as text, lists and mappings, in time and memory bounded by its size.

No tag builds an object, no number or date is converted (a class called ``no`` or ``1e9`` keeps its name), an alias is
the same object again and never a copy, and depth and size are limited before anything is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgedet_runtime.errors import InputError, MissingDependencyError
from edgedet_runtime.short import short
from edgedet_runtime.short_file import read_short_text

if TYPE_CHECKING:
    from yaml.nodes import Node

__all__ = ["Tree", "read_yaml"]

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree] | None"
"""Text, lists and mappings; None for a null."""

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "map", "merge", "seq", "str", "timestamp", "value")
)
_MOST_BYTES = 4_000_000
_MOST_DEPTH = 20


def read_yaml(path: Path) -> dict[str, Tree]:
    """Read a YAML file whose top is a mapping.

    Raises:
        InputError: The file cannot be read, is no such YAML, or is too large or too deep.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("PyYAML", "eval", "reading a data.yaml") from None

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Node | None, index: int) -> Node | None:
            self.depth += 1
            if self.depth > _MOST_DEPTH:
                raise ValueError(f"nested more than {_MOST_DEPTH} deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES // 1_000_000} MB")
        node = yaml.compose(read_short_text(path), Loader=Loader)
        tree = _tree(node, {})
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (yaml.YAMLError, ValueError) as e:  # covers text that is not UTF-8
        why = " ".join(str(e).split())[:100].encode("ascii", "backslashreplace").decode()
        raise InputError(f"{path}: expected a data.yaml, got no YAML that can be read ({why})") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected a data.yaml with keys such as val and names, got {short(tree)}")
    return tree


def _tree(node: Node | None, known: dict[int, Tree]) -> Tree:
    """Return the node's value; a node that was seen before gives the same object."""
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if node is None or node.tag == "tag:yaml.org,2002:null":
        return None
    if node.tag not in _PLAIN_TAGS:
        raise ValueError(f"line {node.start_mark.line + 1}: the tag {short(node.tag)}")
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, ScalarNode):
        return str(node.value)
    if isinstance(node, SequenceNode):
        items: list[Tree] = []
        known[id(node)] = items
        items += [_tree(item, known) for item in node.value]
        return items
    assert isinstance(node, MappingNode), "YAML has three kinds of nodes"
    entries: dict[str, Tree] = {}
    known[id(node)] = entries
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise ValueError(f"line {key.start_mark.line + 1}: a key that is no text")
        if key.value in entries:
            raise ValueError(f"line {key.start_mark.line + 1}: the key {short(key.value)} for the second time")
        entries[key.value] = _tree(value, known)
    return entries
