"""Plans: which engine, precision and thread count; which to recommend, where it is stored, and who overrides it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edgedet_runtime.cpu import available_threads
from edgedet_runtime.errors import InputError, ModelFileError

__all__ = ["PLAN_FILE", "Plan", "Wishes", "apply_plan", "read_plan", "recommend", "save_plan"]

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
        plan = Plan(str(data["engine"]), str(data["precision"]), int(data["threads"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ModelFileError(f"{path}: expected engine, precision and threads, got something else ({e})") from None
    if plan.threads < 1:
        raise ModelFileError(f"{path}: threads: expected a positive number, got {plan.threads}")
    return plan


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller and a plan together ask for; None where neither says anything.

    Attributes:
        engine: Such as ``onnxruntime``.
        precision: ``fp32`` or ``int8``.
        threads: Threads of the engine.
        plan_path: The stored plan that said something of it; None where there was none.
    """

    engine: str | None = None
    precision: str | None = None
    threads: int | None = None
    plan_path: Path | None = None


def apply_plan(model: str | Path, plan: Plan | Literal["auto"] | None, given: Wishes) -> Wishes:
    """Fill in what the caller left open from a plan.

    What the caller gives wins over the plan. With another engine than the plan's, the plan's precision is left out
    too: it was measured on an engine that shall not run. A stored plan never takes more threads than the process may
    use now (`cpu.available_threads`); a `Plan` that the caller hands over is taken as it is.

    Args:
        model: Bundle folder or model file; only a folder has a stored plan.
        plan: A plan, ``auto`` for the one that is stored in the bundle (nothing, if none is), or None.
        given: What the caller asks for.

    Raises:
        InputError: `plan` is something else.
        ModelFileError: The stored file is not a plan.
    """
    if not (plan is None or plan == "auto" or isinstance(plan, Plan)):
        raise InputError(f"plan: expected auto, a Plan or None, got {plan!r}")
    path = Path(model) / PLAN_FILE if plan == "auto" else None
    found = read_plan(Path(model)) if plan == "auto" else plan
    if found is None:
        return given
    threads = found.threads if path is None else min(found.threads, available_threads())
    same_engine = given.engine in (None, found.engine)
    return Wishes(
        engine=given.engine or found.engine,
        precision=given.precision or (found.precision if same_engine else None),
        threads=threads if given.threads is None else given.threads,
        plan_path=path,
    )
