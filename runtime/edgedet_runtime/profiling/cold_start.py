"""How long a device waits after power-on, and what the process weighs: measured in fresh processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime.bundle.plan import Plan
from edgedet_runtime.choices import TRIAL_VARIABLE
from edgedet_runtime.errors import EngineError

__all__ = ["ColdStart", "measure_cold_start"]

_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class ColdStart:
    """A fresh process from its start to its first result, and its memory; medians over the repeats.

    Attributes:
        import_s: From the process's start until Python, numpy, OpenCV and the runtime are imported.
        load_s: Reading the model and preparing the engine.
        first_s: The first picture.
        total_s: From the process's start to the first result.
        resident_mb: Resident set after the first result; None where the system does not tell.
        peak_mb: Highest resident set until then.
        settled_mb: Resident set after all runs, in the process that ran on.
        growth_kb_per_1000_runs: Slope of its resident set over the second half of the runs: engines go on touching new
            memory for a hundred runs or so, which is no leak. None without further runs.
        runs: Runs after the first, in one of the processes.
        repeats: Fresh processes measured.
    """

    import_s: float
    load_s: float
    first_s: float
    total_s: float
    resident_mb: float | None
    peak_mb: float | None
    settled_mb: float | None
    growth_kb_per_1000_runs: float | None
    runs: int
    repeats: int


def measure_cold_start(
    model: Path, plan: Plan, image_bgr: npt.NDArray[np.uint8], *, repeats: int = 3, runs: int = 400
) -> ColdStart:
    """Start fresh processes that load the model and detect once; the first of them then runs on.

    Args:
        model: Bundle or model file.
        plan: Engine, precision and threads.
        image_bgr: uint8 (H, W, 3) picture.
        repeats: Number of processes, one after the other.
        runs: Further runs in the first of them, for the growth of memory.

    Raises:
        EngineError: A process failed; the message holds its last words.
    """
    with tempfile.TemporaryDirectory(prefix="edgedet-") as folder:
        picture = Path(folder) / "image.npy"
        np.save(picture, image_bgr)
        rows = [_start_one(model, plan, picture, 0 if number else runs) for number in range(repeats)]
    return ColdStart(
        import_s=_median(rows, "import_s"),
        load_s=_median(rows, "load_s"),
        first_s=_median(rows, "first_s"),
        total_s=_median(rows, "total_s"),
        resident_mb=_median_or_none(rows, "first_mb"),
        peak_mb=_median_or_none(rows, "first_peak_mb"),
        settled_mb=_median_or_none(rows[:1], "last_mb"),
        growth_kb_per_1000_runs=_median_or_none(rows[:1], "growth_kb_per_1000_runs"),
        runs=runs,
        repeats=repeats,
    )


def _start_one(model: Path, plan: Plan, picture: Path, runs: int) -> dict[str, Any]:
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "edgedet_runtime.profiling.probe", str(model), str(picture)]
    command += [plan.engine, plan.precision, str(plan.threads), str(runs)]
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path, TRIAL_VARIABLE: "never"},  # `session` has loaded the file
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"cold start of {plan}: expected a result within {_TIMEOUT_S:.0f} s, got none") from None
    lines = done.stdout.strip().splitlines()
    try:
        row: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except ValueError:
        row = {}
    if done.returncode != 0 or "first" not in row:
        last_words = row.get("error") or (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise EngineError(f"cold start of {plan}: the process ended with code {done.returncode}: {last_words}")
    row["import_s"] = row["imported"] - start
    row["load_s"] = row["loaded"] - row["imported"]
    row["first_s"] = row["first"] - row["loaded"]
    row["total_s"] = row["first"] - start
    return row


def _median(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.median(float(row[key]) for row in rows)


def _median_or_none(rows: list[dict[str, Any]], key: str) -> float | None:
    values = [float(row[key]) for row in rows if row[key] is not None]
    return statistics.median(values) if values else None
