"""``edgedet train``: the recipe of the built-in model, for any architecture and any labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output

__all__ = ["train"]


def train(
    run: Annotated[Path, typer.Argument(help="Folder of the run; a run that was stopped goes on.")],
    data: Annotated[Path, typer.Argument(help="Rendered scenes (see `edgedet scenes`), YOLO data.yaml or COCO json.")],
    variant: Annotated[str, typer.Option(help="Architecture, a name from `edgedet models`.")] = "edgecode-n",
    images: Annotated[int, typer.Option(min=1, help="Length of the schedule in training images.")] = 200_000,
    hours: Annotated[float | None, typer.Option(help="Length in hours instead.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per step and process, at 320x320.")] = 8,
    processes: Annotated[int, typer.Option(min=1, help="Data-parallel processes.")] = 2,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of the initial weights, the order and the augmentation.")] = 0,
    init: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights to start from.")] = None,
) -> None:
    """Train a detector, or go on with a run."""
    from edgedet.extras import require

    require("torch", "safetensors", extra="export", purpose="edgedet train")
    from edgedet_models.training import TrainConfig
    from edgedet_models.training import train as run_training

    config = TrainConfig(
        run=run,
        data=data,
        variant=variant,
        images=images,
        hours=hours,
        batch=batch,
        processes=processes,
        learning_rate=learning_rate,
        seed=seed,
        init=init,
    )
    weights = run_training(config)
    output.line(f"weights: {weights}")
    output.note(f"next: edgedet export {weights} --int8")
