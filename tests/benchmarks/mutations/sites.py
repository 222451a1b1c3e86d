"""The small faults that a source file offers, read off its syntax tree.

Each fault replaces one expression or statement by another text; everything else in the file keeps its place. What
tests need not notice is left alone: docstrings, messages, annotations, decorators, logging, `assert`, ``__all__``, and
``strict`` of `zip`, which asserts as well.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutation", "mutations_of", "sample_key"]

# each comparison as it is written, and what it becomes
_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.LShift: ">>",
}
_TWINS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "minimum": "maximum",
    "maximum": "minimum",
    "floor": "ceil",
    "ceil": "floor",
    "argmin": "argmax",
    "argmax": "argmin",
}
_SMALL = 1e-2  # a constant below this is a margin: only another magnitude is a fault


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault.

    Attributes:
        path: File, relative to the repository.
        where: Qualified name of the function or class, ``module`` outside.
        line: Line number, from 1.
        start: First byte of the replaced text in the UTF-8 source.
        stop: One after its last byte.
        old: The replaced text.
        new: What replaces it.
        shown: The line where it begins, as it reads without it.
        count: How many faults with the same `where`, `shown`, `old` and `new` stand before this one.
    """

    path: str
    where: str
    line: int
    start: int
    stop: int
    old: str
    new: str
    shown: str
    count: int

    @property
    def name(self) -> str:
        """A name that survives changes to other lines."""
        again = f" #{self.count + 1}" if self.count else ""
        return f"{self.path}::{self.where} | {self.shown} | {_flat(self.old)} => {_flat(self.new)}{again}"

    def apply(self, source: str) -> str:
        """Return the source with the fault in it."""
        data = source.encode()
        return (data[: self.start] + self.new.encode() + data[self.stop :]).decode()


def mutations_of(source: str, path: str) -> list[Mutation]:
    """Return all faults that a file offers, in the order of the text.

    Args:
        source: The file's text.
        path: Its path, relative to the repository.
    """
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    lines = source.splitlines()
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for where, node, new in sorted(finder.found, key=lambda f: (finder.span(f[1]), f[2])):
        start, stop = finder.span(node)
        old = source.encode()[start:stop].decode()
        if new == old:
            continue
        shown = lines[node.lineno - 1].strip()
        key = (where, shown, old, new)
        found.append(Mutation(path, where, node.lineno, start, stop, old, new, shown, seen[key]))
        seen[key] += 1
    return found


def sample_key(mutation: Mutation, seed: int) -> str:
    """Return what to sort by to draw at random, the same on each machine and with faults elsewhere added."""
    return hashlib.sha256(f"{seed} {mutation.name}".encode()).hexdigest()


def _flat(text: str) -> str:
    return " ".join(text.split())


class _Finder(ast.NodeVisitor):
    """Collects (where, node, new text)."""

    def __init__(self, source: str) -> None:
        self.found: list[tuple[str, ast.expr | ast.stmt, str]] = []
        self._source = source
        self._starts = [0]
        for line in source.encode().splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._names: list[str] = []

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the bytes that a node covers."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> str:
        start, stop = self.span(node)
        return self._source.encode()[start:stop].decode()

    def _add(self, node: ast.expr | ast.stmt, *new: str) -> None:
        self.found += [(".".join(self._names) or "module", node, text) for text in new]

    # what is skipped

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._names.append(node.name)
        for default in (*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            self.visit(default)
        for statement in _without_docstring(node.body):
            self.visit(statement)
        self._names.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        for statement in _without_docstring(node.body):
            self.visit(statement)
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if names != ["__all__"]:
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "pass")

    # what is mutated

    def _condition(self, test: ast.expr) -> None:
        if isinstance(test, (ast.Name, ast.Attribute, ast.Call)):
            self._add(test, f"(not {self._text(test)})")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) or _is_logging(node.value):
            return
        if isinstance(node.value, ast.Call):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "pass")
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, str(not value))
        elif isinstance(value, int):
            self._add(node, str(value + 1), *([str(value - 1)] if value > 0 else []))
        elif isinstance(value, float):
            for factor in (2.0, 0.5) if abs(value) < _SMALL else (1.1, 0.9):
                self._add(node, repr(value * factor) if value else "0.01")

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        texts = [self._text(operand) for operand in operands]
        for i, operator in enumerate(node.ops):
            operators = [_COMPARISONS[type(o)][0] for o in node.ops]
            operators[i] = _COMPARISONS[type(operator)][1]
            rest = "".join(f" {o} {t}" for o, t in zip(operators, texts[1:], strict=True))
            self._add(node, f"({texts[0]}{rest})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        left, right = self._text(node.left), self._text(node.right)
        is_text = any(isinstance(side, (ast.JoinedStr, ast.List, ast.Tuple)) or _is_text(side) for side in _sides(node))
        if type(node.op) in _ARITHMETIC and not is_text:
            self._add(node, f"(({left}) {_ARITHMETIC[type(node.op)]} ({right}))", f"({left})")
            if isinstance(node.op, (ast.Add, ast.Mult)):
                self._add(node, f"({right})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        texts = [f"({self._text(value)})" for value in node.values]
        operator = "and" if isinstance(node.op, ast.And) else "or"
        other = "or" if operator == "and" else "and"
        self._add(node, f"({f' {other} '.join(texts)})")
        for i in range(len(texts)):
            self._add(node, f"({f' {operator} '.join(texts[:i] + texts[i + 1 :])})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub)):
            self._add(node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _is_logging(node):
            return
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in _TWINS:
            self._add(node.func, self._text(node.func)[: -len(name)] + _TWINS[name])
        for part in (node.func, *node.args, *(k.value for k in node.keywords if k.arg != "strict")):
            self.visit(part)


def _without_docstring(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if not (isinstance(statement, ast.Expr) and _is_text(statement.value)):
            yield statement


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


def _sides(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the operands of a chain of one kind of operator."""
    if isinstance(node, ast.BinOp):
        yield from _sides(node.left)
        yield from _sides(node.right)
    else:
        yield node


def _is_logging(node: ast.expr) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    owner = node.func.value
    return isinstance(owner, ast.Name) and owner.id.lower().strip("_") in ("log", "logger", "warnings")
