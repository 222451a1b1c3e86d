"""``edgedet eval``: average precision on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedet import output
from edgedet.commands.numbers import COUNT, number
from edgedet.commands.options import Engine, Images, Json, KeptClasses, Precision, Threads, split_list

if TYPE_CHECKING:
    from edgedet.evaluation import EvalResult

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="Bundle folder, .onnx or .xml.")],
    data: Annotated[Path, typer.Option(metavar="DATA", help="COCO json, or YOLO data.yaml.")],
    images: Images = None,
    classes: KeptClasses = None,
    split: Annotated[str, typer.Option(help="Which list of a data.yaml.")] = "val",
    limit: Annotated[int | None, number(COUNT, "Only the first pictures.")] = None,
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure average precision (COCO's figures, 0..1) on labelled pictures."""
    from edgedet.evaluation import evaluate as score
    from edgedet.extras import require
    from edgedet_runtime import Detector
    from edgedet_runtime.labelled import load_dataset

    require("pycocotools", extra="eval", purpose="edgedet eval")
    kept = split_list(classes, str, "--classes")
    dataset = load_dataset(data, images=images, split=split, classes=kept, limit=limit)
    output.notes(dataset.notes)
    with (
        Detector(model, engine=engine, precision=precision, threads=threads) as detector,
        output.progress_bar("evaluating", total=len(dataset.pictures)) as step,
    ):
        result = score(detector, dataset, progress=step)
        used = {"model": str(detector.model_file.path)}
    if json:
        output.document(used | result.to_dict())
    else:
        _show(result, used["model"])


def _show(result: EvalResult, model: str) -> None:
    figures = result.figures
    output.line(f"{model} on {result.engine}, {result.precision}: {result.pictures} pictures, {result.objects} objects")
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")
    output.table(names, [[_figure(getattr(figures, name)) for name in names]], numeric=names)
    scored = [(name, ap) for name, ap in zip(result.classes, figures.per_class, strict=True) if ap is not None]
    if len(scored) > 1:
        ranked = sorted(scored, key=lambda entry: -entry[1])
        output.table(["class", "ap"], [[name, _figure(ap)] for name, ap in ranked], numeric=["ap"])
    if figures.best is not None:
        best = figures.best
        output.line(
            f"best F1 {best.f1:.3f} at threshold {best.threshold:.3f}:"
            f" precision {_figure(best.precision)}, recall {_figure(best.recall)}"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
