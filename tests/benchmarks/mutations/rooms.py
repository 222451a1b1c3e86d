"""Which tests answer for which source folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOMS", "Room", "files_for"]

PACKAGES = ("", "export", "models", "runtime")


@dataclass(frozen=True, slots=True)
class Room:
    """A source folder and the tests that must notice a fault in it.

    Attributes:
        source: Folder, relative to the repository.
        tests: Test files and folders.
        markers: What ``pytest -m`` leaves in.
    """

    source: str
    tests: tuple[str, ...]
    markers: str = "not slow and not docker"


ROOMS: dict[str, Room] = {
    "runtime": Room(
        "runtime/edgedet_runtime",
        ("tests/runtime", "tests/cli/test_doctor.py", "tests/cli/test_detect.py", "tests/cli/test_profile.py"),
    ),
    "export/fuse": Room("export/edgedet_export/fuse", ("tests/export/fuse",)),
    "export/quantize": Room(
        "export/edgedet_export/quantize", ("tests/export/quantize", "tests/export/test_int8.py"), "not docker"
    ),
    "export/parity": Room("export/edgedet_export/parity.py", ("tests/export/test_parity.py",)),
}


def files_for(tree: Path, room: Room, mutated: str) -> list[str]:
    """Return the room's test files, those first that are likeliest to notice a fault in `mutated`.

    Those named after the file come first, then those that import it, then those that import a module of its folder.
    """
    module = _module(mutated)
    files = [
        path
        for name in room.tests
        for path in ([tree / name] if name.endswith(".py") else sorted((tree / name).rglob("test_*.py")))
    ]
    return [str(path.relative_to(tree)) for path in sorted(files, key=lambda path: _rank(path, module))]


def _rank(path: Path, module: str) -> int:
    package, _, last = module.rpartition(".")
    if path.stem == f"test_{last}":
        return 0
    text = path.read_text(encoding="utf-8")
    if module in text or re.search(rf"from {re.escape(package)} import .*\b{re.escape(last)}\b", text):
        return 1
    return 2 if package in text else 3


def _module(path: str) -> str:
    """Return the dotted name of a source file."""
    parts = list(Path(path).with_suffix("").parts)
    if parts[0] in PACKAGES:
        parts = parts[1:]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)
