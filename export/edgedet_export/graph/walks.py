"""Walks through an onnx-ir graph: what a tensor depends on, and what depends on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir

__all__ = ["nodes_of", "reads", "subgraphs", "walk_down", "walk_up"]


def nodes_of(graph: ir.Graph, *op_types: str) -> list[ir.Node]:
    """Return the nodes of some operator types, in graph order, as a new list; the graph may be edited."""
    return [node for node in graph if node.op_type in op_types]


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs that a node carries itself (If, Loop, Scan)."""
    found: list[ir.Graph] = []
    for item in node.attributes.values():
        if item.type == ir.AttributeType.GRAPH:
            found.append(item.as_graph())
        elif item.type == ir.AttributeType.GRAPHS:
            found.extend(item.as_graphs())
    return found


def reads(node: ir.Node) -> list[ir.Value]:
    """Return the tensors that a node reads, each once, with those that its subgraphs take from outside."""
    found: dict[ir.Value, None] = {value: None for value in node.inputs if value is not None}
    inside = _nested(node)
    for graph in inside:
        used = [value for inner in graph for value in inner.inputs if value is not None]
        for value in (*used, *graph.outputs):
            if value.graph is not None and value.graph not in inside:
                found[value] = None
    return list(found)


def walk_up(values: Iterable[ir.Value], *, stop: Callable[[ir.Node], bool] | None = None) -> Iterator[ir.Node]:
    """Yield the nodes that tensors depend on, nearest first, each once.

    Args:
        values: Where to start.
        stop: A node for which this is true is yielded, and not walked through.
    """
    seen: set[ir.Node] = set()
    queue = deque(values)
    while queue:
        node = queue.popleft().producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if stop is None or not stop(node):
            queue.extend(reads(node))


def walk_down(values: Iterable[ir.Value], *, stop: Callable[[ir.Node], bool] | None = None) -> Iterator[ir.Node]:
    """Yield the nodes that depend on tensors, nearest first, each once; `stop` as in `walk_up`.

    A reader inside a subgraph is yielded; the walk does not come out of the subgraph again.
    """
    seen: set[ir.Node] = set()
    queue = deque(values)
    while queue:
        for node in queue.popleft().consumers():
            if node in seen:
                continue
            seen.add(node)
            yield node
            if stop is None or not stop(node):
                queue.extend(node.outputs)


def _nested(node: ir.Node) -> dict[ir.Graph, None]:
    """Return all graphs below a node, outermost first."""
    found: dict[ir.Graph, None] = {}
    queue = deque(subgraphs(node))
    while queue:
        graph = queue.popleft()
        found[graph] = None
        for inner in graph:
            queue.extend(subgraphs(inner))
    return found
