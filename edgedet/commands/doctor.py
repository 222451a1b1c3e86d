"""``edgedet doctor``: does the bundle do here what it did where it was exported?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedet import output
from edgedet.commands.options import Engine, Json, Threads

__all__ = ["doctor"]

MARKS = {"ok": "ok", "warning": "WARN", "failure": "FAIL"}


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Folder of the bundle; without it, that of the built-in model.", show_default=False),
    ] = None,
    engine: Engine = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Check a bundle on this machine: files, engines, CPU, golden vectors, executed precision."""
    from edgedet.commands.default_model import default_bundle
    from edgedet_runtime.doctor import examine

    report = examine(bundle or default_bundle(), engine=engine, threads=threads)
    if json:
        output.document(report.to_dict())
    else:
        output.table(["", "check", "found"], [[MARKS[f.status], f.check, f.detail] for f in report.findings])
        output.line(report.verdict)
    raise typer.Exit(report.exit_code)
