"""``edgedet compare``: which model, at which precision, on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedet import output
from edgedet.commands.numbers import COUNT, PIXELS, THREADS, Whole, number
from edgedet.commands.options import (
    Engines,
    Html,
    Images,
    Json,
    KeptClasses,
    Precisions,
    ThreadCounts,
    engine_option,
    precision_option,
    split_list,
)

if TYPE_CHECKING:
    from edgedet.comparison.contenders import Comparison
    from edgedet.comparison.table import Table

__all__ = ["compare"]


def compare(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL...", help="Bundles or model files; the first is the measure.", show_default=False
        ),
    ] = None,
    zoo: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Build and compare, untrained, for latency only: names or patterns from `edgedet models`, such as"
            " 'yolov5n,yolov5n-*'.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            parser=Whole(32, PIXELS.most), metavar="PX", help="Input of --zoo, rows and columns; default: 640."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where --zoo keeps what it built, to go on from; default: build/zoo."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Labelled pictures for accuracy: COCO json or YOLO data.yaml."),
    ] = None,
    images: Images = None,
    classes: KeptClasses = None,
    engines: Engines = None,
    precisions: Precisions = None,
    threads: ThreadCounts = None,
    runs: Annotated[int, number(COUNT, "Counted runs per model and plan.")] = 30,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture for latency; default: the first bundle's own.")
    ] = None,
    layers: Annotated[
        bool | None,
        typer.Option("--layers/--no-layers", help="Look into the layers; default: for --html.", show_default=False),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Picture or folder to draw detections in, for --html; default: of --data."),
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Runs of `edgedet train` whose curves go into --html, comma-separated."),
    ] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Compare models in one interleaved run: cost, size, latency and, with --data, accuracy."""
    from edgedet.comparison.compare import compare_models
    from edgedet.comparison.samples import draw_samples, sample_paths
    from edgedet.comparison.training_log import read_curve
    from edgedet.extras import require
    from edgedet.html.page import check_place
    from edgedet_runtime.errors import InputError
    from edgedet_runtime.pictures import read_image
    from edgedet_runtime.profiling.session import ProfileConfig
    from edgedet_runtime.writable import require_writable

    if html is not None:
        require("jinja2", "matplotlib", extra="report", purpose="--html")
        check_place(html)
    elif samples is not None or training is not None:
        raise InputError("--samples, --training: expected --html FILE as well, since they only go into the page")
    if zoo is not None and data is not None:
        raise InputError("--data: does not go with --zoo, whose networks are untrained; give trained bundles instead")
    if data is None and (images is not None or classes is not None):
        raise InputError("--images, --classes: expected --data as well, since they say what of it is scored")
    if zoo is None and (size is not None or out is not None):
        raise InputError("--size, --out: expected --zoo as well, since they say how and where it builds")
    if out is not None:
        require_writable(out, argument="out")
    config = ProfileConfig(
        engines=split_list(engines, engine_option, "--engine"),
        precisions=split_list(precisions, precision_option, "--precision"),
        threads=split_list(threads, THREADS, "--threads"),
        runs=runs,
        layers=html is not None if layers is None else layers,
    )
    dataset = None
    if data is not None:
        require("pycocotools", extra="eval", purpose="--data")
        from edgedet_runtime.labelled import load_dataset

        dataset = load_dataset(data, images=images, classes=split_list(classes, str, "--classes"))
        output.notes(dataset.notes)
    picture = read_image(image) if image is not None else None
    shown = sample_paths(samples, dataset)
    curves = [read_curve(Path(run)) for run in split_list(training, str, "--training") or ()]
    chosen = [*(models or []), *(_zoo(zoo, size, out) if zoo is not None else [])]
    if not chosen:
        raise InputError("models: expected bundles or model files, or --zoo with names from `edgedet models`, got none")
    with output.progress_bar("comparing") as step:
        result = compare_models(chosen, config, dataset=dataset, image_bgr=picture, progress=step)
        if html is not None:
            from edgedet.comparison.page import write_page

            drawn = draw_samples(result, shown, progress=step) if shown else ()
            write_page(result, html, samples=drawn, curves=curves)
            output.note(f"page: {html}")
    if json:
        output.document(result.to_dict())
        return
    _show(result)
    if zoo is not None:
        output.line("of the networks that --zoo built: INT8 placed without a search")


def _zoo(patterns: str, size: int | None, out: Path | None) -> list[Path]:
    """Build what the patterns match, saying what is being built; a terminal also shows the steps."""
    from edgedet.extras import require

    require("torch", "onnx", "openvino", extra="export", purpose="--zoo")
    from edgedet.comparison.zoo import DEFAULT_FOLDER, DEFAULT_SIZE_HW, build_zoo, match_variants

    variants = match_variants(split_list(patterns, str, "--zoo") or ())
    size_hw = DEFAULT_SIZE_HW if size is None else (size, size)
    with output.progress_bar("building") as step:
        return build_zoo(variants, size_hw, out or DEFAULT_FOLDER, progress=step, built=output.note)


def _show(result: Comparison) -> None:
    from edgedet.comparison.correlation import COSTS
    from edgedet.comparison.table import accuracy_table, cost_table

    _show_table(cost_table(result))
    accuracy = accuracy_table(result)
    if accuracy is not None:
        _show_table(accuracy)
    load = "unknown" if result.other_load_cpus is None else f"{result.other_load_cpus:.2f} CPUs"
    output.line(
        f"{result.machine.cpu}; {result.picture}; load of others {load}; FP32 / INT8; ms: median end to end, all models"
        " interleaved; of first: share of the first one's time; parameters, GFLOPs, memory access (float32, uncached):"
        " of the unfused network"
    )
    untrained = result.untrained()
    if untrained:
        output.line(f"latency only, untrained (random weights): {', '.join(untrained)}")
    if accuracy is not None:
        output.line(
            "AP: mean over IoU 0.50:0.95; precision, recall, F1: at the threshold with the best F1; drop: points of AP"
        )
    for entry in result.correlations:
        output.line(
            f"{entry.plan}: latency and {COSTS[entry.cost]} of {entry.models} models correlate with Pearson"
            f" {entry.pearson:.2f}, Spearman {entry.spearman:.2f}"
        )


def _show_table(table: Table) -> None:
    output.table(table.columns, table.rows, numeric=table.columns[2:])
