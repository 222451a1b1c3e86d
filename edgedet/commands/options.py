"""Options that several commands share, so that they are spelled and explained alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from edgedet.commands.numbers import SHARE, THREADS, number
from edgedet_runtime.choices import EngineName, parse_engine, parse_precision
from edgedet_runtime.choices import Precision as PrecisionName
from edgedet_runtime.errors import InputError

__all__ = [
    "Conf",
    "Engine",
    "Engines",
    "Html",
    "Images",
    "Iou",
    "Json",
    "KeptClasses",
    "Precision",
    "Precisions",
    "ThreadCounts",
    "Threads",
    "engine_option",
    "precision_option",
    "split_list",
]

Images = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Pictures of a COCO json, where they are not beside it.")
]
KeptClasses = Annotated[
    str | None, typer.Option(metavar="LIST", help="Only these classes of the labelled set: names, comma-separated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
engine_option = partial(parse_engine, argument="--engine")
precision_option = partial(parse_precision, argument="--precision")

Engine = Annotated[
    EngineName | None,
    typer.Option(
        parser=engine_option,
        metavar="NAME",
        help="onnxruntime, openvino or opencv; default: by what the model offers.",
    ),
]
Precision = Annotated[
    PrecisionName | None,
    typer.Option(
        parser=precision_option,
        metavar="NAME",
        help="fp32 or int8; default: what the bundle recommends.",
    ),
]
Engines = Annotated[
    str | None,
    typer.Option("--engine", metavar="LIST", help="Engines, comma-separated; default: all that are installed."),
]
Precisions = Annotated[
    str | None, typer.Option("--precision", metavar="LIST", help="fp32, int8; default: all that a model has.")
]
ThreadCounts = Annotated[
    str | None, typer.Option(metavar="LIST", help="Thread counts, such as 1,2; default: the container's quota.")
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one self-contained HTML page.")]
Threads = Annotated[
    int | None,
    typer.Option(
        parser=THREADS, metavar="N", help="Threads of the engine; default: what the container's quota allows."
    ),
]
Conf = Annotated[float | None, number(SHARE, "Detections must score above this.")]
Iou = Annotated[float | None, number(SHARE, "Boxes of a class that overlap by more are one object.")]

T = TypeVar("T")


def split_list(text: str | None, parse: Callable[[str], T], what: str) -> tuple[T, ...] | None:
    """Parse a comma-separated option.

    Raises:
        InputError: An element cannot be parsed, or there is none.
    """
    if text is None:
        return None
    try:
        values = tuple(parse(part.strip()) for part in text.split(",") if part.strip())
    except typer.BadParameter as e:
        raise InputError(f"{what}: {e.message}") from None
    except ValueError:
        raise InputError(f"{what}: expected a comma-separated list, got {text!r}") from None
    if not values:
        raise InputError(f"{what}: expected at least one value, got {text!r}")
    return values
