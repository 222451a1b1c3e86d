"""The command line: one typer application, one module per command.

Command modules import only the standard library, typer and `edgedet.output` at module level; what a command
needs is imported inside its function. So ``edgedet detect`` on a device never loads torch or onnx, and
``edgedet --help`` loads nothing at all.

Errors and exit codes: `edgedet.boundary`.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from edgedet import output
from edgedet.boundary import ErrorBoundary
from edgedet.caches import keep_caches_aside
from edgedet.commands import (
    bundle,
    compare,
    detect,
    docker,
    doctor,
    evaluate,
    export,
    inspect,
    models,
    profile,
    scenes,
    train,
)

__all__ = ["app", "main"]


app = typer.Typer(
    name="edgedet",
    cls=ErrorBoundary,
    help="Take a trained PyTorch object detector to a CPU at the edge: small, fast and still right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from edgedet_runtime.version import __version__

        output.line(f"edgedet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take a trained PyTorch object detector to a CPU at the edge: small, fast and still right."""


app.command("export")(export.export)
app.command("detect")(detect.detect)
app.command("eval")(evaluate.evaluate)
app.command("profile")(profile.profile)
app.command("compare")(compare.compare)
app.command("inspect")(inspect.inspect)
app.command("doctor")(doctor.doctor)
app.command("models")(models.models)
app.command("docker")(docker.docker)
app.add_typer(bundle.app, name="bundle")
app.command("train")(train.train)
app.command("scenes")(scenes.scenes)


def main() -> None:
    """Run the command line; the entry point that pip installs.

    OpenCV and FFmpeg report on standard error what is said in edgedet's own words already; whoever sets their
    variables hears them all the same.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    output.prepare()
    keep_caches_aside()
    app()
