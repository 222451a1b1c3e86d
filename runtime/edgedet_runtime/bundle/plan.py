"""Plans: which engine, precision and thread count; which to recommend, where it is stored, and who overrides it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgedet_runtime.choices import EngineName, Precision, parse_engine, parse_precision
from edgedet_runtime.cpu import Processor, available_threads, this_processor
from edgedet_runtime.errors import ArgumentError, InputError, ModelFileError
from edgedet_runtime.from_json import read_json
from edgedet_runtime.whole_file import write_whole_file

__all__ = ["PLAN_FILE", "Plan", "StoredPlan", "Wishes", "apply_plan", "read_plan", "recommend", "save_plan"]

_LOG = logging.getLogger(__name__)

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

    engine: EngineName
    precision: Precision
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


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """What a bundle's plan file says.

    Attributes:
        plan: The plan.
        measured_on: Where it was the fastest; None where the file does not say.
    """

    plan: Plan
    measured_on: Processor | None = None

    def elsewhere(self) -> str | None:
        """Return why the plan says nothing about the processor here, as a sentence; None where it holds."""
        there, here = self.measured_on, this_processor()
        if there is None or there.computes_like(here):
            return None
        return f"{self.plan} was measured on {_described(there)}, and this is {_described(here)}"


def _described(processor: Processor) -> str:
    return f"{processor.cpu} ({', '.join([processor.architecture, *processor.features])})"


def save_plan(plan: Plan, bundle: Path, *, measured_on: Processor | None = None) -> Path:
    """Store a plan in a bundle folder and return the file's path.

    Args:
        plan: The plan.
        bundle: The folder.
        measured_on: Where it was the fastest; `Detector(plan="auto")` follows it on such processors only.

    Raises:
        InputError: The folder cannot be written to.
    """
    target = bundle / PLAN_FILE
    document = asdict(plan) | ({} if measured_on is None else {"measured_on": asdict(measured_on)})
    try:
        write_whole_file(target, json.dumps(document, indent=2) + "\n")
    except OSError as e:
        raise InputError(f"{target}: the plan cannot be stored: {e.strerror}") from None
    return target


def read_plan(bundle: Path) -> StoredPlan | None:
    """Read the plan that was stored in a bundle folder; None where there is none.

    Raises:
        ModelFileError: The file is not a plan.
    """
    path = bundle / PLAN_FILE
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        engine, precision = parse_engine(data["engine"]), parse_precision(data["precision"])
        plan = Plan(engine, precision, int(data["threads"]))
        measured_on = _read_processor(data.get("measured_on"))
    except ArgumentError as e:
        raise ModelFileError(f"{path}: {e}; measure again: edgedet profile {bundle} --save-plan") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as e:
        raise ModelFileError(f"{path}: expected engine, precision and threads, got something else ({e})") from None
    if plan.threads < 1:
        raise ModelFileError(f"{path}: threads: expected a positive number, got {plan.threads}")
    return StoredPlan(plan, measured_on)


def _read_processor(data: Any) -> Processor | None:
    if data is None:
        return None
    return Processor(str(data["cpu"]), str(data["architecture"]), tuple(map(str, data["features"])))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller and a plan together ask for; None where neither says anything.

    Attributes:
        engine: Such as ``onnxruntime``.
        precision: ``fp32`` or ``int8``.
        threads: Threads of the engine.
        plan_path: The stored plan that said something of it; None where there was none.
    """

    engine: EngineName | None = None
    precision: Precision | None = None
    threads: int | None = None
    plan_path: Path | None = None


def apply_plan(model: str | Path, plan: Plan | Literal["auto"] | None, given: Wishes) -> Wishes:
    """Fill in what the caller left open from a plan.

    What the caller gives wins over the plan. With another engine than the plan's, the plan's precision is left out
    too: it was measured on an engine that shall not run. A `Plan` that the caller hands over is taken as it is. A
    stored plan never takes more threads than the process may use now (`cpu.available_threads`), and says nothing where
    it was measured on a processor of another architecture or with other instruction sets: which engine and precision
    are fastest is then another question, so the defaults hold, and a warning is logged.

    Args:
        model: Bundle folder or model file; only a folder has a stored plan.
        plan: A plan, ``auto`` for the one that is stored in the bundle (nothing, if none is), or None.
        given: What the caller asks for.

    Raises:
        InputError: `plan` is something else.
        ModelFileError: The stored file is not a plan.
    """
    if not (plan is None or plan == "auto" or isinstance(plan, Plan)):
        raise ArgumentError("plan", f"expected auto, a Plan or None, got {plan!r}")
    if plan != "auto":
        return given if plan is None else _fill(given, plan)
    path = Path(model) / PLAN_FILE
    stored = read_plan(Path(model))
    if stored is None:
        return given
    why_not = stored.elsewhere()
    if why_not is not None:
        _LOG.warning("%s: %s: the defaults hold; measure here: edgedet profile --save-plan", path, why_not)
        return given
    threads = min(stored.plan.threads, available_threads())
    return _fill(given, replace(stored.plan, threads=threads), plan_path=path)


def _fill(given: Wishes, plan: Plan, *, plan_path: Path | None = None) -> Wishes:
    same_engine = given.engine in (None, plan.engine)
    return Wishes(
        engine=given.engine or plan.engine,
        precision=given.precision or (plan.precision if same_engine else None),
        threads=plan.threads if given.threads is None else given.threads,
        plan_path=plan_path,
    )
