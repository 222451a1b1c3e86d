"""Where errors end: one line, an exit code, in the command line's own words, whatever a command raises."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner, Result

from edgedet import output
from edgedet.boundary import FAULT, ErrorBoundary
from edgedet_runtime.choices import parse_engine
from edgedet_runtime.errors import (
    ArgumentError,
    CheckFailedError,
    EdgedetError,
    InputError,
    MissingDependencyError,
)
from tests.cli.colors import refused, run, shell


def raising(action: Callable[[], object]) -> Result:
    """Run a command line whose only command does something that raises."""
    app = typer.Typer(cls=ErrorBoundary, pretty_exceptions_enable=False)

    @app.callback()
    def root() -> None: ...

    @app.command()
    def fail(
        max_drop: float = 0.5,
        classes: Annotated[str | None, typer.Option("--names")] = None,
        int8: Annotated[bool, typer.Option("--int8")] = False,
    ) -> None:
        action()

    return CliRunner().invoke(app, ["fail"], catch_exceptions=False)


def throw(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("what: expected this, got\nthat"), 2),
        (CheckFailedError("did not hold"), 1),
        (MissingDependencyError("torch", "export", "edgedet export"), 2),
        (EdgedetError("root"), 2),
        (MemoryError(), 2),
        (PermissionError(13, "Permission denied", "x.bin"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_end_in_one_line(error: Exception, code: int) -> None:
    refused(raising(throw(error)), code=code)


def test_an_argument_is_named_by_its_flag() -> None:
    for error, line in (
        (ArgumentError("max_drop", "expected 0 or more, got -1"), "error: --max-drop: expected 0 or more, got -1"),
        (ArgumentError("classes", "expected 3 names"), "error: --names: expected 3 names"),
        (ArgumentError("classes", "goes with `int8`, not `seed`"), "error: --names: goes with --int8, not `seed`"),
        (ArgumentError("seed", "expected a number"), "error: seed: expected a number"),
        (ArgumentError("max_drop, seed", "expected both"), "error: --max-drop, seed: expected both"),
        (InputError("classes: a sentence of a file"), "error: classes: a sentence of a file"),
        (CheckFailedError("lost 3 points; raise `max_drop`"), "error: lost 3 points; raise --max-drop"),
    ):
        assert raising(throw(error)).stderr == f"{line}\n"


def test_python_hears_of_arguments_and_the_command_line_of_flags(tmp_path: Path) -> None:
    from edgedet import ExportConfig

    with pytest.raises(InputError, match=r"^data: it judges INT8 against FP32, so it goes with `int8`$"):
        ExportConfig(data=tmp_path)
    with pytest.raises(InputError, match=r"^max_drop: expected 0 or more points, got nan$"):
        ExportConfig(max_drop=float("nan"))
    with pytest.raises(InputError, match=r"^formats: expected onnx, openvino or both, got tflite$"):
        ExportConfig(formats=("tflite",))  # type: ignore[arg-type]
    refused(run("export", "--data", tmp_path), "error: --data: ", "goes with --int8")
    refused(run("export", "--max-drop", "nan"), "error: --max-drop: expected a number from 0 to 100, got 'nan'")
    refused(run("export", "--format", "tflite"), "error: --format: ")


def test_engines_and_precisions_are_parsed_once(bundle: Path, photo: Path) -> None:
    for option, word in (("--engine", "tensorrt"), ("--precision", "fp16")):
        refused(run("detect", bundle, photo, option, word), f"error: {option}: expected", repr(word))
        refused(run("profile", bundle, option, f"{word},x"), f"error: {option}: expected", repr(word))
    assert parse_engine("opencv") == "opencv"
    with pytest.raises(ArgumentError, match=r"^engine: expected one of onnxruntime, openvino, opencv, got 3$"):
        parse_engine(3)


def test_a_fault_is_70_and_names_a_file_with_the_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = raising(throw(ZeroDivisionError("a\x1b[2J bug")))
    refused(result, "a fault of edgedet itself; please report it", r"ZeroDivisionError: a\x1b[2J bug", code=FAULT)
    (details,) = tmp_path.iterdir()
    assert str(details) in result.stderr
    text = details.read_text()
    assert "Traceback" in text
    assert "ZeroDivisionError" in text
    assert details.stat().st_mode & 0o077 == 0


def test_a_fault_without_a_place_for_details_still_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    refused(raising(throw(RecursionError("deep"))), "test_boundary.py line", "RecursionError: deep", code=FAULT)


def test_interrupt_is_130() -> None:
    result = raising(throw(KeyboardInterrupt()))
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["detect", "m.onnx", "x.jpg", "--engin", "opencv"], ["--engin: no such option; did you mean --engine?"]),
        (["export", "--outs", "x"], ["did you mean --out"]),
        (["detec"], ["detec", "detect"]),
        (["detect", "m.onnx", "x.jpg", "--conf", "2"], ["--conf: "]),
        (["eval", "m.onnx"], ["--data: is missing"]),
        (["detect"], ["SOURCE", "is missing"]),
        (["export", "--outputs", "boxes"], ["--outputs: 'boxes' is not one of 'raw', 'decoded', 'nms'"]),
        (["profile", "m.onnx", "--runs", "0"], ["--runs: "]),
        (["detect", "m.onnx", "x\x1b]0;y\x07.jpg", "--runs", "0"], ["--runs: no such option"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors_are_one_line_in_own_words(arguments: list[str], words: list[str]) -> None:
    result = run(*arguments)
    refused(result, *words, "--help")
    assert result.stdout == ""
    assert not any(mark in result.stderr for mark in ("│", "Input should be", "Value error"))


def test_thread_counts_that_would_overflow(bundle: Path, photo: Path) -> None:
    for count in ("1025", "2147483648", str(2**63)):
        refused(
            run("detect", bundle, photo, "--threads", count), "error: --threads: expected a whole number from 1 to 1024"
        )


@pytest.mark.parametrize("place", ["/proc/x/y", "/dev/null/x"])
def test_a_place_that_cannot_be_written_is_found_out_first(place: str, bundle: Path, photo: Path) -> None:
    refused(run("export", "no-such-checkpoint.pt", "--out", place), "error: --out: ", "written")
    refused(run("detect", bundle, photo, "--save", place), "error: --save: ", "written")
    refused(run("scenes", place), "error: out: ", "written")
    refused(run("train", place, "no-such-data"), "error: run: ", "written")


@pytest.mark.parametrize("command", ["profile", "compare"])
def test_a_page_that_cannot_be_written_is_found_out_first(command: str, bundle: Path) -> None:
    refused(run(command, bundle, "--html", "/proc/page.html"), "error: --html: ", "written")
    refused(run(command, bundle, "--html", bundle / "no-such-folder" / "page.html"), "--html", "expected a place")


HOSTILE = "a\x1b[2Jb\x9b1mc\nd\u202ee\udcfff\x7f"
SAFE = r"a\x1b[2Jb\x9b1mc\x0ad\u202ee\udcfff\x7f"


def test_names_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.line(HOSTILE)
    output.note(HOSTILE.replace("\n", ""))
    output.table(["name"], [[HOSTILE.replace("\n", "")]])
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == SAFE
    assert shown.err == SAFE.replace(r"\x0a", "") + "\n"
    assert SAFE.replace(r"\x0a", "") in shown.out.splitlines()[-1].join(shown.out.splitlines())
    assert not any(ord(c) < 32 and c != "\n" for c in shown.out + shown.err)
    assert output.printable("Grüße, 日本 🙂 e\u0301") == "Grüße, 日本 🙂 e\u0301"


def test_json_holds_every_character_and_shows_none_that_commands(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({HOSTILE: [HOSTILE, "ü\u2028"]})
    text = capsys.readouterr().out
    assert json.loads(text) == {HOSTILE: [HOSTILE, "ü\u2028"]}
    assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or ord(c) > 0x2000 for c in text)
    assert "ü" in text


def test_warnings_of_libraries_are_notes(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        output.prepare()
        logging.getLogger("edgedet_runtime.test").warning("a\x1b[2J name\nin two lines")
    finally:
        root.handlers = before
    assert capsys.readouterr().err == "warning: a\\x1b[2J name in two lines\n"


@pytest.mark.parametrize("command", ["inspect BUNDLE --json", "inspect BUNDLE", "--help"])
def test_a_full_standard_output_is_one_line(command: str, bundle: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgedet", *command.replace("BUNDLE", str(bundle)).split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device" in line


def test_a_closed_standard_output_is_one_line(bundle: Path) -> None:
    command = f"{sys.executable} -m edgedet doctor {bundle} --json >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: standard output: expected an open stream, it is closed\n"


def test_a_terminal_that_lacks_a_character_gets_an_escape(bundle: Path, tmp_path: Path) -> None:
    name = tmp_path / "gr\u00fcn"
    bundle.rename(name)
    done = subprocess.run(
        [sys.executable, "-m", "edgedet", "inspect", str(name / "nothing")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 2
    assert rb"gr\xfcn" in done.stderr


def test_module_and_exit_code_of_the_process(tmp_path: Path) -> None:
    done = shell("detect", "nothing.onnx", "nothing.jpg", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
