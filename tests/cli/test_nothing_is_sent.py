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
import os
import sys

here = os.path.realpath(os.getcwd())

def writes_elsewhere(path, flags):
    if not isinstance(path, (str, bytes)) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return False
    place = os.path.realpath(os.fsdecode(path))
    return not place.startswith((here + os.sep, "/dev/"))

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("GUARD", event, args[0], file=sys.stderr)
    if event == "socket.connect" and isinstance(args[1], tuple) and args[1][0] not in ("127.0.0.1", "::1"):
        print("GUARD", event, args[1], file=sys.stderr)
    if event == "open" and writes_elsewhere(args[0], args[2] or 0):
        print("GUARD", event, args[0], file=sys.stderr)

sys.addaudithook(watch)
"""
"""As sitecustomize.py, which every Python process imports first: the command's own and its workers."""


def run_guarded(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` with a HOME, caches and temporary files of its own, all below ``folder/home``.

    Trials are on, as they are outside of tests.
    """
    home = folder / "home"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard/sitecustomize.py").write_text(GUARD)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL", "TORCH", "EDGEDET_"))}
    environment = {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PYTHONPATH": os.pathsep.join([str(folder / "guard"), *(p for p in sys.path if p)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", "from edgedet.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


REMEMBERED = Path("home/.local/state/edgedet/survived")
"""The one place beside the output where something stays: which model files an engine has survived."""


def left_behind(folder: Path) -> list[str]:
    """Return what lies in HOME beside names of hashes in `REMEMBERED`."""
    own = {folder / "home/tmp", folder / REMEMBERED, *(folder / REMEMBERED).parents}
    hashes = {p for p in (folder / REMEMBERED).glob("*") if re.fullmatch("[0-9a-f]{64}", p.name) and p.is_file()}
    return sorted(str(p.relative_to(folder)) for p in (folder / "home").rglob("*") if p not in own | hashes)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import socket; socket.getaddrinfo('localhost', 80)", "socket.getaddrinfo"),
        ("import socket; socket.socket().connect_ex(('192.0.2.1', 9))", "socket.connect"),
        ("open('/proc/self/comm', 'w')", "open /proc/"),
        (
            "import multiprocessing as m;"
            " p = m.get_context('spawn').Process(target=open, args=('/proc/self/comm', 'w')); p.start(); p.join()",
            "open /proc/",
        ),
    ],
    ids=["a look-up", "a connection", "a file", "a file of a worker"],
)
def test_the_guard_sees(tmp_path: Path, code: str, word: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", f"import socket; socket.setdefaulttimeout(0.1); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert f"GUARD {word}" in done.stderr


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
        ("scenes", "scenes.json", "--count", "4", "--processes", "1"),
        ("scenes", "cache", "--count", "4", "--processes", "2"),
        ("eval", "bundle", "--data", "scenes.json"),
        ("eval", "bundle", "--data", "scenes.json", "--engine", "openvino"),
        ("compare", "bundle", "--data", "scenes.json", "--html", "compare.html", "--runs", "2"),
        ("train", "run", "cache", "--images", "16", "--batch", "1", "--sizes", "64:1", "--processes", "2"),
        ("train", "alone", "cache", "--images", "16", "--batch", "1", "--sizes", "64:1", "--processes", "1"),
        ("inspect", "run/weights.safetensors"),
        ("inspect", "bundle", "--json"),
        ("detect", "bundle", pictures, "--save", "drawn"),
        ("compare", "--zoo", "edgecode-n", "--size", "64", "--runs", "2"),
    ]
    for command in commands:
        done = run_guarded(tmp_path, *command)
        assert done.returncode == 0, (command, done.stderr)
        assert "GUARD" not in done.stderr, command
        assert left_behind(tmp_path) == [], command
        assert command[0] != "export" or not (tmp_path / REMEMBERED).exists(), "what is made here needs no trial"
    assert len(list((tmp_path / REMEMBERED).iterdir())) >= 4, "two files on two engines at the least"
    expected = {"bundle", "profile.html", "scenes.json", "scenes", "cache", "compare.html", "run", "alone", "drawn"}
    assert {p.name for p in tmp_path.iterdir()} == {*expected, "build", "home", "guard"}


def test_openvino_is_imported_in_one_place() -> None:
    importing = re.compile(r"^\s*(import openvino\b|from openvino\b)", re.MULTILINE)
    files = [p for room in ("edgedet", "export", "models", "runtime") for p in (ROOT / room).rglob("*.py")]
    found = [p.relative_to(ROOT).as_posix() for p in files if importing.search(p.read_text(encoding="utf-8"))]
    assert found == ["runtime/edgedet_runtime/engines/openvino_package.py"]
