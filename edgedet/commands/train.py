"""``edgedet train``: the recipe of the built-in model, for any architecture and any labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import typer

from edgedet import output
from edgedet.boundary import command_line
from edgedet.commands.numbers import COUNT, HOURS, PIXELS, RATE, SECONDS, SEED, SHARE, THREADS, Real, number

__all__ = ["train"]


class _SizeOptions(TypedDict, total=False):
    sizes: tuple[int, ...]
    size_weights: tuple[float, ...]


def _size_options(text: str | None) -> _SizeOptions:
    """Read ``256:0.5,320:0.5``; nothing where nothing is given."""
    if text is None:
        return {}
    from edgedet_runtime.errors import InputError

    try:
        pairs = [(PIXELS(size), Real(0.0, 1e6)(share)) for size, share in (part.split(":") for part in text.split(","))]
    except typer.BadParameter as e:
        raise InputError(f"--sizes: {e.message}") from None
    except ValueError:
        raise InputError(f"--sizes: expected PX:SHARE,PX:SHARE such as 256:0.5,320:0.5, got {text!r}") from None
    total = sum(share for _, share in pairs)
    if min(share for _, share in pairs) < 0 or total <= 0:
        raise InputError(f"--sizes: expected shares of 0 or more and one above 0, got {text!r}")
    return {"sizes": tuple(size for size, _ in pairs), "size_weights": tuple(share / total for _, share in pairs)}


def train(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of the run; a run that was stopped goes on.")],
    data: Annotated[Path, typer.Argument(help="Rendered scenes (see `edgedet scenes`), YOLO data.yaml or COCO json.")],
    variant: Annotated[str, typer.Option(help="Architecture, a name from `edgedet models`.")] = "edgecode-n",
    images: Annotated[int, number(COUNT, "Length of the schedule in training images.")] = 200_000,
    hours: Annotated[float | None, number(HOURS, "Length in hours instead.")] = None,
    batch: Annotated[int, number(COUNT, "Images per step and process, at 320x320.")] = 8,
    processes: Annotated[int, number(THREADS, "Data-parallel processes.")] = 2,
    learning_rate: Annotated[float, number(RATE, "Peak learning rate.")] = 2e-3,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="PX:SHARE,…", help="Input sizes and how often each is drawn, such as 256:0.5,320:0.5."),
    ] = None,
    mosaic: Annotated[float, number(SHARE, "Share of samples that are four views in one.")] = 0.3,
    ema: Annotated[float, number(SHARE, "Decay of the average of weights, per step.")] = 0.998,
    seed: Annotated[int, number(SEED, "Of the initial weights, the order and the augmentation.")] = 0,
    save_s: Annotated[
        float, number(SECONDS, "Time between two saved states.", "--save-every", metavar="SECONDS")
    ] = 120.0,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to start from: of a run, or published ImageNet weights of the backbone.",
        ),
    ] = None,
) -> None:
    """Train a detector, or go on with a run.

    Ctrl-C, SIGTERM and a closed terminal save the run first; a second Ctrl-C ends it at once.
    """
    from edgedet.extras import require

    require("torch", "safetensors", extra="export", purpose="edgedet train")
    from edgedet_models.training import TrainConfig
    from edgedet_models.training import train as run_training
    from edgedet_runtime.errors import StoppedError

    config = TrainConfig(
        run=run,
        data=data,
        variant=variant,
        images=images,
        hours=hours,
        batch=batch,
        processes=processes,
        learning_rate=learning_rate,
        mosaic=mosaic,
        ema=ema,
        save_s=save_s,
        seed=seed,
        init=init,
        **_size_options(sizes),
    )
    try:
        weights = run_training(config)
    except StoppedError as e:
        output.note(f"{e}; to go on: {command_line(context)}")
        raise typer.Exit(e.exit_code) from None
    output.line(f"weights: {weights}")
    output.note(f"next: edgedet export {weights} --int8")
