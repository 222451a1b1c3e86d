"""Plans: which engine, precision and thread count; which of them to measure, and which to recommend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgedet_runtime.errors import InputError, ModelFileError

__all__ = ["PLAN_FILE", "Plan", "read_plan", "recommend", "save_plan"]

PLAN_FILE = "plan.json"
_EQUALLY_FAST = 1.03


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """One way to run a model.

    Attributes:
        engine: Such as ``onnxruntime``.
        precision: ``fp32`` or ``int8``.
        threads: Threads that the engine may use.
    """

    engine: str
    precision: str
    threads: int

    def __str__(self) -> str:
        """Return the plan as a short label."""
        return f"{self.engine} {self.precision} {self.threads} thread{'s' if self.threads > 1 else ''}"


def recommend(median_ms: Mapping[Plan, float], *, allowed: Sequence[Plan] | None = None) -> Plan:
    """Choose the fastest plan; among plans within 3 % of it, the one with fewest threads.

    Args:
        median_ms: End-to-end median by plan.
        allowed: Plans whose accuracy was accepted; None allows all.

    Raises:
        InputError: There is nothing to choose from.
    """
    choice = {plan: ms for plan, ms in median_ms.items() if allowed is None or plan in allowed}
    if not choice:
        raise InputError("plans: expected at least one measured plan, got none")
    fastest = min(choice.values())
    near = [plan for plan, ms in choice.items() if ms <= fastest * _EQUALLY_FAST]
    return min(near, key=lambda plan: (plan.threads, choice[plan]))


def save_plan(plan: Plan, bundle: Path) -> Path:
    """Store a plan in a bundle folder and return the file's path."""
    target = bundle / PLAN_FILE
    aside = target.with_suffix(".json.part")
    aside.write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
    aside.replace(target)
    return target


def read_plan(bundle: Path) -> Plan | None:
    """Read the plan that was stored in a bundle folder; None where there is none.

    Raises:
        ModelFileError: The file is not a plan.
    """
    path = bundle / PLAN_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Plan(str(data["engine"]), str(data["precision"]), int(data["threads"]))
    except (ValueError, KeyError, TypeError) as e:
        raise ModelFileError(f"{path}: expected engine, precision and threads, got something else ({e})") from None
