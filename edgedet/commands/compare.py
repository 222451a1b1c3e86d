"""``edgedet compare``: which model, at which precision, on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedet import output
from edgedet.commands.options import Json, split_list

if TYPE_CHECKING:
    from edgedet.comparison import Comparison, Contender

__all__ = ["compare"]


def compare(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Bundles or model files.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Labelled pictures for AP: COCO json or YOLO data.yaml.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="LIST", help="Engines, comma-separated; default: all that are installed.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="LIST", help="fp32, int8; default: all that each model has.")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="LIST", help="Thread counts, such as 1,2; default: the container's quota.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs per model and plan.")] = 30,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture for latency; default: the first bundle's own.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one self-contained HTML page.")] = None,
    json: Json = False,
) -> None:
    """Compare models in one interleaved run: cost, size, latency and, with --data, AP."""
    from edgedet.comparison import compare_models
    from edgedet.extras import require
    from edgedet_runtime.profiling.session import ProfileConfig
    from edgedet_runtime.sources import read_image

    if html is not None:
        require("jinja2", "matplotlib", extra="report", purpose="--html")
    config = ProfileConfig(
        engines=split_list(engine, str, "--engine"),
        precisions=split_list(precision, str, "--precision"),
        threads=split_list(threads, int, "--threads"),
        runs=runs,
    )
    dataset = None
    if data is not None:
        require("pycocotools", extra="eval", purpose="--data")
        from edgedet.evaluation import load_dataset

        dataset = load_dataset(data)
    picture = read_image(image) if image is not None else None
    with output.progress_bar("comparing") as step:
        result = compare_models(models, config, dataset=dataset, image_bgr=picture, progress=step)
    if html is not None:
        from edgedet.comparison_page import write_page

        write_page(result, html)
        output.note(f"page: {html}")
    if json:
        output.document(result.to_dict())
    else:
        _show(result)


def _show(result: Comparison) -> None:
    columns = ["model", "plan", "params", "GFLOPs", "MB", "ms", "p90", "speed-up"]
    numeric = columns[2:]
    if result.data is not None:
        columns += ["AP", "AP50", "drop"]
        numeric += ["AP", "AP50", "drop"]
    output.table([*columns, ""], [_row(c, result) for c in result.contenders], numeric=numeric)
    load = "unknown" if result.other_load_cpus is None else f"{result.other_load_cpus:.2f} CPUs"
    output.line(
        f"{result.machine.cpu}; {result.picture}; load of others {load}; ms: median end to end, all models interleaved;"
        " speed-up: over FP32 of the same engine; *: nothing here is better"
    )
    for entry in result.correlations:
        output.line(f"{entry.plan}: GFLOPs and latency of {entry.models} models correlate with r = {entry.r:.2f}")


def _row(entry: Contender, result: Comparison) -> list[str]:
    def text(value: float | None, form: str) -> str:
        return "" if value is None else form.format(value)

    row = [
        Path(entry.model).name,
        str(entry.plan),
        text(entry.params, "{:,}"),
        text(entry.gflops, "{:.2f}"),
        f"{entry.size_bytes / 1e6:.2f}",
        f"{entry.latency.median:.2f}",
        f"{entry.latency.p90:.2f}",
        text(entry.speed_up, "{:.2f}"),
    ]
    if result.data is not None:
        row += [text(entry.ap, "{:.3f}"), text(entry.ap50, "{:.3f}"), text(entry.ap_drop, "{:.2f}")]
    return [*row, "*" if entry.best else ""]
