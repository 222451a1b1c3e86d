"""``edgedet profile``: how fast, how heavy, and where the time goes, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedet import output
from edgedet.commands.board import profile_on
from edgedet.commands.options import Json, split_list

if TYPE_CHECKING:
    from edgedet_runtime.profiling.report import Change

__all__ = ["profile"]


def profile(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle folder, .onnx or .xml; without it, the bundle of the built-in model.", show_default=False
        ),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="LIST", help="Engines, comma-separated; default: all that are installed.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="LIST", help="fp32, int8; default: all that the model has.")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="LIST", help="Thread counts, such as 1,2; default: the container's quota.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs per plan.")] = 50,
    cold_starts: Annotated[
        int, typer.Option(min=0, help="Fresh processes per plan; 0 leaves cold start and memory out.")
    ] = 3,
    cold_runs: Annotated[int, typer.Option(min=0, help="Runs in each fresh process, to see memory grow.")] = 100,
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Look into the layers, and at what bounds each of them.")
    ] = True,
    throughput: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="Keep several requests in flight so long, per engine and precision; 0 leaves it out.",
        ),
    ] = 3.0,
    requests: Annotated[
        int | None,
        typer.Option(min=1, help="Requests in flight, one engine thread each; default: the container's quota."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture to detect in; default: the bundle's own.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Exit 1 if slower than this earlier profile.")
    ] = None,
    save_plan: Annotated[bool, typer.Option("--save-plan", help="Store the recommended plan in the bundle.")] = False,
    host: Annotated[
        str | None, typer.Option(metavar="USER@BOARD", help="Doctor and profile on this machine instead, over ssh.")
    ] = None,
    host_python: Annotated[
        str, typer.Option(metavar="PATH", help="The board's Python, with numpy, OpenCV and an engine.")
    ] = "python3",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one self-contained HTML page.")] = None,
    json: Json = False,
) -> None:
    """Measure latency, throughput, cold start, memory and layers, alternatives interleaved."""
    from edgedet.default_model import default_bundle
    from edgedet.extras import require
    from edgedet.profile_tables import show_changes, show_report
    from edgedet_runtime.errors import CheckFailedError, InputError
    from edgedet_runtime.profiling.plans import save_plan as store
    from edgedet_runtime.profiling.report import compare as compare_with
    from edgedet_runtime.profiling.session import ProfileConfig, profile_model
    from edgedet_runtime.sources import read_image

    if html is not None:
        require("jinja2", "matplotlib", extra="report", purpose="--html")
    model = model or default_bundle()
    config = ProfileConfig(
        engines=split_list(engine, str, "--engine"),
        precisions=split_list(precision, str, "--precision"),
        threads=split_list(threads, int, "--threads"),
        runs=runs,
        cold_starts=cold_starts,
        cold_runs=cold_runs,
        layers=layers,
        throughput_s=throughput,
        requests=requests,
    )
    if host is not None:
        if image is not None or compare is not None or html is not None or save_plan:
            raise InputError("--host: does not go with --image, --compare, --html or --save-plan; save its --json")
        profile_on(host, host_python, model, config, json=json)
    if save_plan and not model.is_dir():
        raise InputError(f"--save-plan: expected a bundle folder to store it in, got {model}")
    picture = read_image(image) if image is not None else None
    with output.progress_bar("profiling") as step:
        report = profile_model(model, config, image_bgr=picture, progress=step)
    changes = compare_with(report, compare) if compare is not None else ()
    if json:
        output.document({**report.to_dict(), "changes": [_change(c) for c in changes]})
    else:
        show_report(report)
        show_changes(changes)
    if html is not None:
        from edgedet.profile_page import write_page

        write_page(report, html)
        output.note(f"page: {html}")
    if save_plan:
        output.note(f"plan stored in {store(report.recommended, model)}")
    slower = [change for change in changes if change.verdict == "slower"]
    if slower:
        worst = max(slower, key=lambda change: change.ratio.estimate)
        raise CheckFailedError(
            f"{worst.plan}: expected no slower than in {compare}, got {worst.ratio.estimate:.3f} times as slow"
            f" (95 % interval {worst.ratio.low:.3f} to {worst.ratio.high:.3f})"
        )


def _change(change: Change) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(change)
