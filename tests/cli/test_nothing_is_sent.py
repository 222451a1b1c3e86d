"""Nothing is sent and nothing is left behind: no socket beyond loopback, no file outside the output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

GUARD = """
import sys

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("GUARD", event, args[0], file=sys.stderr)
    if event == "socket.connect" and isinstance(args[1], tuple) and args[1][0] not in ("127.0.0.1", "::1"):
        print("GUARD", event, args[1], file=sys.stderr)

sys.addaudithook(watch)
from edgedet.cli import main
main()
"""


def run_guarded(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` with a HOME, caches and temporary files of its own, all below ``folder/home``."""
    home = folder / "home"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL", "TORCH"))}
    environment = {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", GUARD, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def left_behind(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in (folder / "home").rglob("*") if p != folder / "home/tmp")


@pytest.mark.slow
def test_no_command_sends_anything_or_leaves_files(tmp_path: Path) -> None:
    pictures = ROOT / "models/edgedet_models/builtin/samples"
    commands: list[tuple[object, ...]] = [
        ("export", "--int8", "--imgsz", "64", "64", "--max-drop", "100", "--out", "bundle"),
        ("detect", "bundle", pictures, "--engine", "openvino", "--json"),
        ("detect", "bundle", pictures, "--engine", "onnxruntime", "--json"),
        ("doctor", "bundle"),
        ("inspect", "bundle"),
        ("profile", "bundle", "--runs", "3", "--throughput", "0", "--html", "profile.html"),
        ("models", "yolov5n"),
    ]
    for command in commands:
        done = run_guarded(tmp_path, *command)
        assert done.returncode == 0, (command, done.stderr)
        assert "GUARD" not in done.stderr, command
        assert left_behind(tmp_path) == [], command


def test_openvino_is_imported_in_one_place() -> None:
    importing = re.compile(r"^\s*(import openvino\b|from openvino\b)", re.MULTILINE)
    files = [p for room in ("edgedet", "export", "models", "runtime") for p in (ROOT / room).rglob("*.py")]
    found = [p.relative_to(ROOT).as_posix() for p in files if importing.search(p.read_text(encoding="utf-8"))]
    assert found == ["runtime/edgedet_runtime/engines/openvino_package.py"]
