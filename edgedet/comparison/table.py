"""A comparison as tables, one row per model and setup: the same for the command line and for the page.

A cell that holds two numbers, such as ``31.2 / 20.1``, holds FP32 and INT8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgedet.comparison.contenders import Accuracy, Comparison, Contender, display_names
from edgedet.html import page
from edgedet_runtime.choices import EngineName, Precision

__all__ = [
    "PRECISIONS",
    "Setup",
    "Table",
    "accuracy_table",
    "by_setup",
    "cost_table",
    "number",
    "setup_names",
    "setups",
]

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True, slots=True, order=True)
class Setup:
    """Where a model runs: a plan without its precision.

    Attributes:
        engine: Such as ``onnxruntime``.
        threads: Threads of the engine.
    """

    engine: EngineName
    threads: int

    def __str__(self) -> str:
        """Return a short label."""
        return f"{self.engine} {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and cells, all text.

    Attributes:
        columns: Headings: the model, the engine, and then numbers.
        rows: Engines outermost, models in the order given.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_Of = Mapping[Precision, Contender]
"""The contenders of one model and setup by precision."""


def setups(comparison: Comparison) -> list[Setup]:
    """List the engines and thread counts that were measured, in order."""
    return list(dict.fromkeys(Setup(c.plan.engine, c.plan.threads) for c in comparison.contenders))


def setup_names(comparison: Comparison) -> dict[Setup, str]:
    """Return what to call each setup: its engine, and the threads where they differ."""
    every = setups(comparison)
    alike = len({setup.threads for setup in every}) == 1
    return {setup: setup.engine if alike else str(setup) for setup in every}


def by_setup(comparison: Comparison, setup: Setup) -> dict[str, dict[Precision, Contender]]:
    """Return model → precision → contender, for one setup."""
    found: dict[str, dict[Precision, Contender]] = {}
    for entry in comparison.contenders:
        if Setup(entry.plan.engine, entry.plan.threads) == setup:
            found.setdefault(entry.model, {})[entry.plan.precision] = entry
    return found


def cost_table(comparison: Comparison) -> Table:
    """Return cost, size and latency."""
    return _table(
        comparison,
        {
            "ms": lambda of: _pair(of, lambda e: e.latency.median),
            "INT8 speed-up": lambda of: number(of["int8"].speed_up) if "int8" in of else "",
            "of first": lambda of: _pair(of, _of_first, digits=2),
            "MB": lambda of: _pair(of, lambda e: e.size_bytes / 1e6),
            "parameters": lambda of: _one(of, lambda e: None if e.params is None else f"{e.params:,}"),
            "GFLOPs": lambda of: _one(of, lambda e: number(e.gflops, 2)),
            "memory access MB": lambda of: _one(of, _memory_access),
        },
    )


def accuracy_table(comparison: Comparison) -> Table | None:
    """Return accuracy; None without data."""
    if comparison.data is None:
        return None

    def figure(name: str) -> Callable[[_Of], str]:
        return lambda of: _pair(of, lambda e: getattr(e.accuracy or Accuracy(), name), digits=3)

    return _table(
        comparison,
        {
            "AP": figure("ap"),
            "AP50": figure("ap50"),
            "precision": figure("precision"),
            "recall": figure("recall"),
            "F1": figure("f1"),
            "drop": lambda of: number(of["int8"].ap_drop, 2) if "int8" in of else "",
        },
    )


def number(value: float | None, digits: int | None = None) -> str:
    """Return a number with so many decimals, by default two below 10 and one above; nothing for None."""
    if digits is None:
        digits = 2 if abs(value or 0.0) < 10 else 1
    return page.number(value, digits)


def _table(comparison: Comparison, figures: Mapping[str, Callable[[_Of], str]]) -> Table:
    """Lay out figures; a column without any is left out."""
    names = display_names([entry.model for entry in comparison.contenders])
    rows = [
        (names[model], label, *(figure(of) for figure in figures.values()))
        for setup, label in setup_names(comparison).items()
        for model, of in by_setup(comparison, setup).items()
    ]
    columns = ("model", "engine", *figures)
    used = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    return Table(tuple(columns[at] for at in used), tuple(tuple(row[at] for at in used) for row in rows))


def _memory_access(entry: Contender) -> str | None:
    return None if entry.memory_access_bytes is None else f"{entry.memory_access_bytes / 1e6:.0f}"


def _of_first(entry: Contender) -> float | None:
    return None if entry.ratio_to_first is None else entry.ratio_to_first.estimate


def _one(of: _Of, text: Callable[[Contender], str | None]) -> str:
    """Return what all precisions have in common."""
    return text(next(iter(of.values()))) or ""


def _pair(of: _Of, value: Callable[[Contender], float | None], digits: int | None = None) -> str:
    """Return FP32 and INT8 as one cell, a dash for what is missing; empty where neither has the number."""
    cells = [number(value(of[p]), digits) if p in of else "" for p in PRECISIONS]
    if not any(cells):
        return ""
    return " / ".join(cell or "–" for cell in cells)
