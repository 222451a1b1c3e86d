"""The curves of training runs, read from the logs that ``edgedet train`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import InputError
from edgedet_runtime.from_json import parse_json
from edgedet_runtime.short_file import DATASET_MB, read_short_text

__all__ = ["Curve", "read_curve"]

LOG = "log.jsonl"


@dataclass(frozen=True, slots=True)
class Curve:
    """Loss over the pictures seen.

    Attributes:
        run: Name of the run's folder.
        images: Pictures seen, rising.
        loss: Mean over the steps since the point before.
    """

    run: str
    images: tuple[int, ...]
    loss: tuple[float, ...]


def read_curve(run: Path) -> Curve:
    """Read a run's log.

    Args:
        run: Its folder, or the log itself.

    Raises:
        InputError: There is no log, or it is not one.
    """
    path = run / LOG if run.is_dir() else run
    try:
        rows = [parse_json(line) for line in read_short_text(path, at_most_mb=DATASET_MB).splitlines() if line.strip()]
        points = [(int(row["images"]), float(row["loss"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as e:
        raise InputError(f"--training {run}: expected a run of edgedet train with {LOG}, got {e}") from None
    if not points:
        raise InputError(f"--training {run}: {path} has no row yet")
    name = path.resolve().parent.name if path.name == LOG else path.stem
    return Curve(name, tuple(images for images, _ in points), tuple(loss for _, loss in points))
