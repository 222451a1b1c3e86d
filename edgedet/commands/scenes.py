"""``edgedet scenes``: render labelled pictures of machine-readable codes, to train with or to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output

__all__ = ["scenes"]

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def scenes(
    out: Annotated[Path, typer.Argument(help="Folder for a training cache; or a .png or .jpg for a preview sheet.")],
    count: Annotated[int, typer.Option(min=1, help="Scenes to render.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; each next one has the next.")] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes of a cache.")] = 2,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Draw the labels into a sheet.")] = True,
) -> None:
    """Render labelled scenes: a cache for `edgedet train`, or a sheet to look at."""
    from edgedet.extras import require
    from edgedet_runtime.errors import InputError

    require("torch", "zxingcpp", "segno", extra="train", purpose="edgedet scenes")
    from edgedet_models.scenes import preview_sheet, write_cache

    if out.suffix.lower() in SHEET_SUFFIXES:
        import cv2

        _, data = cv2.imencode(out.suffix.lower(), preview_sheet(range(seed, seed + count), labels=labels))
        try:
            out.write_bytes(data.tobytes())
        except OSError as e:
            raise InputError(f"{out}: cannot be written: {e.strerror or e}") from None
        output.line(str(out))
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder, or a name that ends in {', '.join(SHEET_SUFFIXES)}, got a file")
    with output.progress_bar("rendering") as step:
        shards = 0
        for shards, _path in enumerate(write_cache(out, count, first_seed=seed, processes=processes), 1):
            step(shards)
    output.line(f"{count} scenes in {shards} files: {out}")
    output.note(f"next: edgedet train RUN {out}")
