"""The log of a run, ``log.jsonl``: a row of means for every few steps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from edgedet_models.training.state import TrainingProgress
from edgedet_runtime.short_file import DATASET_MB, read_short_text
from edgedet_runtime.whole_file import whole_file

__all__ = ["LOG", "append_row", "cut_log"]

LOG = "log.jsonl"


def append_row(path: Path, progress: TrainingProgress, means: dict[str, float], rate: float, speed: float) -> None:
    """Append a row: progress, mean losses, learning rate, training images per second."""
    row = {**dataclasses.asdict(progress), **means, "learning_rate": rate, "images_per_s": speed}
    with path.open("a") as file:
        file.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")


def cut_log(path: Path, step: int) -> None:
    """Leave out rows after a step, from where a run that was killed goes on; they will be written anew."""
    if not path.exists():
        return
    lines = read_short_text(path, at_most_mb=DATASET_MB, errors="replace").splitlines()
    kept = [line for line in lines if _step(line) <= step]
    if len(kept) < len(lines):
        with whole_file(path) as file:
            file.write("".join(f"{line}\n" for line in kept).encode())


def _step(line: str) -> float:
    """Return a row's step; without end for a row that was not written whole."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
