"""The frame around the commands: help, errors, exit codes, streams, and what is imported when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgedet
from edgedet import output
from tests.cli.colors import refused, run

COMMANDS = ["compare", "detect", "doctor", "eval", "export", "inspect", "models", "profile", "scenes", "train"]


def test_help_lists_every_command() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert command in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str) -> None:
    shown = run(command, "-h")
    assert shown.exit_code == 0
    assert "Usage" in shown.stdout


def test_version() -> None:
    from edgedet_runtime.version import __version__

    assert run("--version").stdout == f"edgedet {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["detect"],
        ["detect", "m.onnx", "x.jpg", "--no-such-option"],
        ["detect", "m.onnx", "x.jpg", "--conf", "2"],
        ["detect", "m.onnx", "x.jpg", "--threads", "0"],
        ["export", "--imgsz", "640"],
        ["export", "--outputs", "boxes"],
        ["eval", "m.onnx"],
        ["profile", "m.onnx", "--runs", "0"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_and_exit_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.stdout == ""
    refused(result, "--help" if arguments[-1] != "640" else "--imgsz")


def test_json_refuses_what_json_has_not() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        output.document({"score": float("nan")})


def test_reader_that_goes_away_is_no_traceback(bundle: Path) -> None:
    command = f"{sys.executable} -m edgedet doctor {bundle} --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_detect_loads_no_training_package(bundle: Path, photo: Path) -> None:
    """On a device there is no torch; and where there is, loading it would cost seconds."""
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'nncf', 'openvino', 'scipy', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from edgedet.cli import app\n"
        f"app(['detect', {str(bundle)!r}, {str(photo)!r}, '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["images"]) == 1


@pytest.mark.parametrize(
    ("command", "package"),
    [(["export"], "torch"), (["models"], "torch"), (["inspect", "{file}"], "torch"), (["train", "r", "d"], "torch")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_without_the_export_extra_one_line_says_what_to_install(
    command: list[str], package: str, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"x")
    arguments = [part.format(file=file) for part in command]
    program = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a)\n"
        "from edgedet.cli import app\n"
        f"app({arguments!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert package in line
    assert "pip install 'edgedet[export]'" in line


def test_public_names() -> None:
    assert edgedet.__all__ == sorted(edgedet.__all__)
    assert set(dir(edgedet)) == set(edgedet.__all__)
    for name in edgedet.__all__:
        assert getattr(edgedet, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(edgedet, "nonsense")  # noqa: B009
