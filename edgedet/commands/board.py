"""``edgedet profile --host``: what a board says about a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from edgedet import output

if TYPE_CHECKING:
    from edgedet_runtime.profiling.session import ProfileConfig

__all__ = ["profile_on"]


def profile_on(host: str, python: str, bundle: Path, config: ProfileConfig, *, json: bool) -> NoReturn:
    """Run doctor and profile on a board and print what comes back; exit 1 where the bundle is unfit there."""
    from edgedet.remote import Board, profile_on_board

    with output.progress_bar(f"profiling on {host}"):
        document = profile_on_board(Board(host, python), bundle, asdict(config))
    if json:
        output.document(document)
    else:
        _show(document)
    raise typer.Exit(int(document["doctor"]["exit_code"]))


def _show(document: dict[str, Any]) -> None:
    output.line(f"{document['host']}: {document['doctor']['verdict']}")
    for finding in document["doctor"]["findings"]:
        if finding["status"] != "ok":
            output.line(f"{finding['status']}: {finding['check']}: {finding['detail']}")
    profile = document["profile"]
    if profile is None:
        return
    machine, columns = profile["machine"], ("pre_ms", "infer_ms", "post_ms", "end_to_end_ms")
    output.line(f"{machine['cpu']}, {machine['threads_available']} of {machine['cpus_online']} CPUs")
    rows = []
    for plan in profile["plans"]:
        latency = plan["latency"]
        row = [f"{plan['engine']} {plan['precision']} {plan['threads']}"]
        row += [f"{latency[name]['median']:.2f}" for name in columns]
        rows.append([*row, f"{latency['end_to_end_ms']['p90']:.2f}"])
    names = ["plan", "pre", "infer", "post", "end to end", "p90"]
    output.table(names, rows, numeric=names[1:])
    best = profile["recommended"]
    output.line(f"ms, medians; recommended: {best['engine']} {best['precision']} with {best['threads']} threads")
