"""The command line: one typer application, one module per command, one place where errors end.

Command modules import only the standard library, typer and `edgedet.output` at module level; what a command
needs is imported inside its function. So ``edgedet detect`` on a device never loads torch or onnx, and
``edgedet --help`` loads nothing at all.

Exit codes: 0 fine, 1 a check failed, 2 bad input or usage, 130 interrupted, 141 the reader of the output went
away.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edgedet import output
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
from edgedet_runtime.errors import EdgedetError

__all__ = ["app", "main"]


class _ErrorBoundary(TyperGroup):
    """Turns errors raised on purpose into one line and an exit code; all others are bugs and show."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except EdgedetError as e:
            output.error(e)
            raise typer.Exit(e.exit_code) from None
        except KeyboardInterrupt:
            output.note("interrupted")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None


app = typer.Typer(
    name="edgedet",
    cls=_ErrorBoundary,
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
    """Run the command line; the entry point that pip installs."""
    app()
