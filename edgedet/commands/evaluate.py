"""``edgedet eval``: average precision on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output
from edgedet.commands.options import Engine, Json, Precision, Threads

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="Bundle folder, .onnx or .xml.")],
    data: Annotated[Path, typer.Option(metavar="DATA", help="COCO json, or YOLO data.yaml.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures of a COCO json, where they are not beside it.")
    ] = None,
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure average precision (COCO) on labelled pictures."""
    raise SystemExit((model, data, images, engine, precision, threads, json, output))
