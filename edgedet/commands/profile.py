"""``edgedet profile``: how fast, how heavy, and where the time goes, on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedet import output
from edgedet.commands.numbers import COUNT, COUNT_OR_NONE, SECONDS, THREADS, number
from edgedet.commands.options import (
    Engines,
    Html,
    Json,
    Precisions,
    ThreadCounts,
    engine_option,
    precision_option,
    split_list,
)
from edgedet.device.board_profile import profile_on, show_doctor

if TYPE_CHECKING:
    from edgedet_runtime.profiling.changes import ProfileChanges
    from edgedet_runtime.profiling.report import ProfileReport

__all__ = ["profile"]


def profile(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle folder, .onnx or .xml; without it, the bundle of the built-in model.", show_default=False
        ),
    ] = None,
    engines: Engines = None,
    precisions: Precisions = None,
    threads: ThreadCounts = None,
    runs: Annotated[int, number(COUNT, "Counted runs per plan.")] = 50,
    cold_starts: Annotated[
        int,
        typer.Option(
            parser=COUNT_OR_NONE, metavar="N", help="Fresh processes per plan; 0 leaves cold start and memory out."
        ),
    ] = 3,
    cold_runs: Annotated[int, number(COUNT_OR_NONE, "Runs in one of them, to see memory grow.")] = 400,
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Look into the layers, and at what bounds each of them.")
    ] = True,
    throughput_s: Annotated[
        float,
        typer.Option(
            "--throughput",
            parser=SECONDS,
            metavar="SECONDS",
            help="Keep several requests in flight so long, per engine and precision; 0 leaves it out.",
        ),
    ] = 3.0,
    requests: Annotated[
        int | None,
        typer.Option(
            parser=THREADS,
            metavar="N",
            help="Requests in flight, one engine thread each; default: the container's quota.",
        ),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture to detect in; default: the bundle's own.")
    ] = None,
    old: Annotated[
        Path | None, typer.Option("--compare", metavar="OLD.json", help="Exit 1 if slower than this earlier profile.")
    ] = None,
    save_plan: Annotated[bool, typer.Option("--save-plan", help="Store the recommended plan in the bundle.")] = False,
    host: Annotated[
        str | None, typer.Option(metavar="USER@BOARD", help="Doctor and profile on this machine instead, over ssh.")
    ] = None,
    host_python: Annotated[
        str, typer.Option(metavar="PATH", help="The board's Python, with numpy, OpenCV and an engine.")
    ] = "python3",
    html: Html = None,
    json: Json = False,
) -> None:
    """Measure latency, throughput, cold start, memory and layers, alternatives interleaved."""
    from edgedet.commands.default_model import default_bundle
    from edgedet.extras import require
    from edgedet.html.page import check_place
    from edgedet_runtime.bundle.slot_state import current_bundle
    from edgedet_runtime.cpu import cpu_model
    from edgedet_runtime.errors import InputError
    from edgedet_runtime.pictures import read_image
    from edgedet_runtime.profiling.changes import check_cpu
    from edgedet_runtime.profiling.report import ProfileReport, read_profile
    from edgedet_runtime.profiling.session import ProfileConfig, profile_model

    if html is not None:
        require("jinja2", "matplotlib", extra="report", purpose="--html")
        check_place(html)
    model = current_bundle(model or default_bundle())
    config = ProfileConfig(
        engines=split_list(engines, engine_option, "--engine"),
        precisions=split_list(precisions, precision_option, "--precision"),
        threads=split_list(threads, THREADS, "--threads"),
        runs=runs,
        cold_starts=cold_starts,
        cold_runs=cold_runs,
        layers=layers,
        throughput_s=throughput_s,
        requests=requests,
    )
    if save_plan and not model.is_dir():
        raise InputError(f"--save-plan: expected a bundle folder to store it in, got {model}")
    older = None if old is None else read_profile(old)
    outputs = _Outputs(older, old, html, model if save_plan else None, json)
    if host is None:
        if older is not None:
            check_cpu(older, cpu_model())
        picture = read_image(image) if image is not None else None
        with output.progress_bar("profiling") as step:
            report = profile_model(model, config, image_bgr=picture, progress=step)
        outputs.give(report)
        return
    if image is not None:
        raise InputError("--host: does not go with --image; the board detects in the bundle's own picture")
    document = profile_on(host, host_python, model, config)
    if not json:
        show_doctor(document)
    if document["profile"] is not None:
        outputs.give(ProfileReport.from_dict(document["profile"]), document)
    elif json:
        output.document(document)
    raise typer.Exit(int(document["doctor"]["exit_code"]))


@dataclass(frozen=True, slots=True)
class _Outputs:
    """What becomes of a report: held against an older one, a page, the bundle's plan, JSON or text."""

    old: ProfileReport | None
    old_path: Path | None
    html: Path | None
    plan_to: Path | None
    json: bool

    def give(self, report: ProfileReport, board: dict[str, Any] | None = None) -> None:
        """Print or write everything; `board` is the document that ``--host`` prints around the profile.

        Raises:
            CheckFailedError: A plan is slower than in the older profile.
        """
        from edgedet.profile.tables import show_comparison, show_report
        from edgedet_runtime.bundle.plan import save_plan
        from edgedet_runtime.profiling.changes import compare

        comparison = None if self.old is None else compare(report, self.old)
        if self.json:
            told = {"changes": [], "differs": []} if comparison is None else asdict(comparison)
            document = {**report.to_dict(), "changes": told["changes"], "differs": told["differs"]}
            output.document(document if board is None else {**board, "profile": document})
        else:
            show_report(report)
            if comparison is not None:
                show_comparison(comparison)
        if self.html is not None:
            from edgedet.profile.page import write_page

            write_page(report, self.html)
            output.note(f"page: {self.html}")
        if self.plan_to is not None:
            stored = save_plan(report.recommended, self.plan_to, measured_on=report.machine.processor)
            output.note(f"plan stored in {stored}")
        if comparison is not None:
            _refuse_slower(comparison, self.old_path)


def _refuse_slower(comparison: ProfileChanges, old_path: Path | None) -> None:
    from edgedet_runtime.errors import CheckFailedError

    slower = [change for change in comparison.changes if change.verdict == "slower"]
    if slower:
        worst = max(slower, key=lambda change: change.ratio.estimate)
        raise CheckFailedError(
            f"{worst.plan}: expected no slower than in {old_path}, got {worst.ratio.estimate:.3f} times as slow"
            f" (95 % interval {worst.ratio.low:.3f} to {worst.ratio.high:.3f})"
        )
