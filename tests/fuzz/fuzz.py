"""Fuzz every format that edgedet reads: change files that the project makes, and read them within limits.

    python tests/fuzz/fuzz.py                                  # 500 inputs of each format
    python tests/fuzz/fuzz.py onnx ir --count 10000 --seed 7   # more of two formats
    python tests/fuzz/fuzz.py torch-zip --only 4711            # one input again, with all that it said
    python tests/fuzz/fuzz.py torch-zip --replay DIR           # the files of a folder instead of changed ones

An input is right if it is accepted, or refused by an error of edgedet on one line. All else is a fault, listed in
`tests.fuzz.case.Verdict`: its files are kept under ``--out``, the first three of each place in the program, with a note
that says what happened and how to do it again. ``--extra DIR`` adds the files of a folder (``../shared/hostile``) as
seeds of the formats that their names fit. Exits 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / part) for part in ("export", "models", "runtime"))]

from tests.fuzz.case import FAULTS, Files, Format  # noqa: E402
from tests.fuzz.child import Outcome, make_input, outcomes, write_input  # noqa: E402
from tests.fuzz.formats import FORMATS  # noqa: E402

_KEPT_OF_A_PLACE = 3
_COLUMNS = ("accepted", "refused", *FAULTS)


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of a format's inputs.

    Attributes:
        name: The format.
        seed: Seed of the changes.
        counts: Number of inputs by verdict.
        faults: The first inputs of each place where something went wrong.
        most_memory: The most bytes of memory that an input took.
        seconds: Wall time.
    """

    name: str
    seed: int
    counts: dict[str, int]
    faults: tuple[Outcome, ...]
    most_memory: int
    seconds: float


def make_seeds(form: Format, extra: Path | None = None) -> list[Files]:
    """Return a format's seeds; they are made in another process, since engines leave threads behind."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        with tempfile.TemporaryDirectory() as folder, os.fdopen(writing, "wb") as pipe:
            pickle.dump(form.seeds(Path(folder)), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise SystemExit(f"{form.name}: its seeds cannot be made")
    seeds: list[Files] = pickle.loads(data)
    return seeds + (_extra_seeds(seeds, extra) if extra is not None else [])


def _extra_seeds(seeds: list[Files], folder: Path) -> list[Files]:
    """Return files of a folder in the place of files with the same ending."""
    more: list[Files] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size < 1 << 20):
        for seed in seeds:
            names = [name for name in seed if Path(name).suffix == path.suffix]
            if names:
                more.append({**seed, names[0]: path.read_bytes()})
                break
    return more


def preload() -> None:
    """Import what readers need, once: children are copies of this process."""
    import cv2
    import torch
    import yaml

    import edgedet_export.quantize.images
    import edgedet_models.families
    import edgedet_runtime.labelled

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _ = (yaml, edgedet_runtime.labelled, edgedet_export.quantize.images)
    edgedet_models.families.variants()


def fuzz(form: Format, seeds: list[Files], *, seed: int, indices: Sequence[int], out: Path | None, tell: Any) -> Tally:
    """Read inputs of a format, and keep those that go wrong.

    Args:
        form: The format.
        seeds: Its files.
        seed: Seed of the changes.
        indices: Numbers of the inputs.
        out: Where faults are kept; None: nowhere.
        tell: Called after each input, with its outcome.
    """
    began = time.monotonic()
    counts: Counter[str] = Counter()
    places: Counter[str] = Counter()
    faults: list[Outcome] = []
    most = 0
    for outcome in outcomes(form, lambda index: make_input(form, seeds, seed, index), indices):
        counts[outcome.verdict] += 1
        most = max(most, outcome.memory)
        tell(outcome)
        if outcome.verdict not in FAULTS:
            continue
        place = f"{outcome.verdict} {outcome.place}"
        places[place] += 1
        if places[place] <= _KEPT_OF_A_PLACE:
            faults.append(outcome)
            if out is not None:
                _keep(out / form.name / f"{seed}-{outcome.index}", form, seeds, seed, outcome)
    return Tally(form.name, seed, dict(counts), tuple(faults), most, round(time.monotonic() - began, 1))


def _keep(folder: Path, form: Format, seeds: list[Files], seed: int, outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_input(folder / "input", make_input(form, seeds, seed, outcome.index))
    note = (
        f"{outcome.verdict} at {outcome.place}\n\n{outcome.words}\n\n"
        f"again: python tests/fuzz/fuzz.py {form.name} --seed {seed} --only {outcome.index}\n"
        f"or:    python tests/fuzz/fuzz.py {form.name} --replay {folder / 'input'}\n"
    )
    (folder / "what-happened.txt").write_text(note, encoding="utf-8")


def _show(tallies: Sequence[Tally]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("format", *_COLUMNS, "MiB at most", "seconds")
    for tally in tallies:
        numbers = [str(tally.counts.get(verdict, 0)) for verdict in _COLUMNS]
        table.add_row(tally.name, *numbers, str(tally.most_memory >> 20), f"{tally.seconds:.0f}")
    console = Console(width=140)
    console.print(table)
    for tally in tallies:
        for fault in tally.faults:
            last = fault.words.strip().rpartition("\n")[2][:150]
            console.print(f"{tally.name} {fault.index}: {fault.verdict} at {fault.place}: {last}", markup=False)


def _replay(form: Format, folder: Path) -> int:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    (outcome,) = outcomes(form, lambda index: files, [0])
    sys.stdout.write(f"{outcome.verdict}: {outcome.words}\n{outcome.memory >> 20} MiB, {outcome.cpu_s} s\n")
    return 1 if outcome.verdict in FAULTS else 0


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(FORMATS)}; all by default")
    parser.add_argument("--count", type=int, default=500, help="inputs of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="the input of this number alone")
    parser.add_argument("--replay", type=Path, metavar="DIR", help="read the files of this folder")
    parser.add_argument("--extra", type=Path, metavar="DIR", help="more seeds")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "edgedet-fuzz", help="for faults")
    parser.add_argument("--json", action="store_true", help="print the counts and faults as JSON")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.formats if name not in FORMATS]
    if unknown:
        parser.error(f"expected formats among {', '.join(FORMATS)}, got {unknown[0]}")
    preload()
    chosen = [FORMATS[name] for name in arguments.formats or FORMATS]
    if arguments.replay is not None:
        return max(_replay(form, arguments.replay) for form in chosen)
    if arguments.only is not None:
        for form in chosen:
            seeds = make_seeds(form, arguments.extra)
            with tempfile.TemporaryDirectory() as folder:
                write_input(Path(folder), make_input(form, seeds, arguments.seed, arguments.only))
                return _replay(form, Path(folder))
    tallies = _with_progress(chosen, arguments)
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(tally) for tally in tallies], indent=1) + "\n")
    else:
        _show(tallies)
    return 1 if any(tally.faults for tally in tallies) else 0


def _with_progress(chosen: Sequence[Format], arguments: argparse.Namespace) -> list[Tally]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tallies = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for form in chosen:
            task = progress.add_task(form.name, total=arguments.count)
            faults = 0

            def tell(outcome: Outcome, task: Any = task, name: str = form.name) -> None:
                nonlocal faults
                faults += outcome.verdict in FAULTS
                progress.update(task, advance=1, description=f"{name}, {faults} faults" if faults else name)

            seeds = make_seeds(form, arguments.extra)
            progress.update(task, total=arguments.count)
            tally = fuzz(form, seeds, seed=arguments.seed, indices=range(arguments.count), out=arguments.out, tell=tell)
            tallies.append(tally)
    return tallies


if __name__ == "__main__":
    sys.exit(main())
