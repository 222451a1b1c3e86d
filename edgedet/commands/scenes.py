"""``edgedet scenes``: render labelled pictures of machine-readable codes, to train with, to score on or to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output
from edgedet.commands.numbers import COUNT, SEED, THREADS, number

__all__ = ["scenes"]

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LABELS_SUFFIX = ".json"


def scenes(
    out: Annotated[
        Path,
        typer.Argument(
            help="Folder for a training cache; a .json for labelled pictures in COCO's format, to score on; or a .png"
            " or .jpg for a preview sheet."
        ),
    ],
    count: Annotated[int, number(COUNT, "Scenes to render.")] = 20,
    seed: Annotated[int, number(SEED, "Seed of the first scene; each next one has the next.")] = 0,
    processes: Annotated[int, number(THREADS, "Worker processes; a sheet needs none.")] = 2,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Draw the labels into a sheet.")] = True,
) -> None:
    """Render labelled scenes: to train with, to score on, or a sheet to look at."""
    from edgedet.extras import require
    from edgedet_runtime.errors import InputError
    from edgedet_runtime.writable import require_writable

    require("torch", "zxingcpp", "segno", extra="train", purpose="edgedet scenes")
    suffix = out.suffix.lower()
    is_file = suffix in (LABELS_SUFFIX, *SHEET_SUFFIXES)
    if out.exists() and out.is_dir() == is_file:
        endings = ", ".join((LABELS_SUFFIX, *SHEET_SUFFIXES))
        got = "a file" if out.is_file() else "a folder"
        raise InputError(f"{out}: expected a folder, or a file whose name ends in {endings}, got {got}")
    require_writable(out if is_file else out / "scenes", argument="out")
    try:
        if suffix in SHEET_SUFFIXES:
            _sheet(out, range(seed, seed + count), labels)
        elif suffix == LABELS_SUFFIX:
            _labelled(out, count, seed, processes)
        else:
            _cache(out, count, seed, processes)
    except OSError as e:
        raise InputError(f"{out}: cannot be written: {e.strerror or e}") from None


def _sheet(out: Path, seeds: range, labels: bool) -> None:
    import cv2

    from edgedet_models.scenes import preview_sheet

    _, data = cv2.imencode(out.suffix.lower(), preview_sheet(seeds, labels=labels))
    out.write_bytes(data.tobytes())
    output.line(str(out))


def _labelled(out: Path, count: int, seed: int, processes: int) -> None:
    from edgedet_models.scenes import write_coco

    with output.progress_bar("rendering", total=count) as step:
        for _path in write_coco(out, count, first_seed=seed, processes=processes):
            step()
    output.line(f"{count} scenes: {out}")
    output.note(f"next: edgedet eval MODEL --data {out}")


def _cache(out: Path, count: int, seed: int, processes: int) -> None:
    from edgedet_models.scenes import write_cache

    with output.progress_bar("rendering") as step:
        shards = 0
        for shards, _path in enumerate(write_cache(out, count, first_seed=seed, processes=processes), 1):
            step(shards)
    output.line(f"{count} scenes in {shards} files: {out}")
    output.note(f"next: edgedet train RUN {out}")
