"""Which tests answer for which source folder."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PACKAGES", "ROOMS", "Room"]

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
