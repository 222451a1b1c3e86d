"""``edgedet profile --host``: what a board says about a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedet import output

if TYPE_CHECKING:
    from edgedet_runtime.profiling.session import ProfileConfig

__all__ = ["profile_on", "show_doctor"]


def profile_on(host: str, python: str, bundle: Path, config: ProfileConfig) -> dict[str, Any]:
    """Run doctor and profile on a board; see `profile_on_board` for what comes back."""
    from edgedet.device.remote import Board, profile_on_board

    with output.progress_bar(f"profiling on {host}"):
        return profile_on_board(Board(host, python), bundle, asdict(config))


def show_doctor(document: dict[str, Any]) -> None:
    """Print the doctor's verdict, and all that is not in order."""
    output.line(f"{document['host']}: {document['doctor']['verdict']}")
    for finding in document["doctor"]["findings"]:
        if finding["status"] != "ok":
            output.line(f"{finding['status']}: {finding['check']}: {finding['detail']}")
