"""JSON of any kind where a command reads JSON: one line and exit 2, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgedet.device.remote import SSH_VARIABLE
from edgedet_runtime import ModelSpec
from edgedet_runtime.bundle.plan import PLAN_FILE
from edgedet_runtime.errors import ModelFileError
from tests.cli.colors import refused, run

DEEP = "[" * 100_000
DOCUMENTS = {
    "nothing": "",
    "deep lists": DEEP,
    "deep objects": '{"a":' * 100_000,
    "infinity": '{"threads": Infinity, "engine": "opencv", "precision": "fp32"}',
    "1e400": '{"threads": 1e400, "engine": "opencv", "precision": "fp32"}',
    "huge": '{"threads": ' + "9" * 5000 + "}",
    "a list": "[1]",
    "a list for a word": '{"engine": ["x"], "precision": {}, "threads": []}',
    "half a surrogate pair": '{"engine": "\\ud800", "precision": "fp32", "threads": 1}',
    "not UTF-8": b"\xff\xfe{".decode("latin-1"),
    "null": "null",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_plans_and_profiles(document: str, bundle: Path, photo: Path, tmp_path: Path) -> None:
    data = document.encode("latin-1" if not document.isascii() else "ascii")
    (bundle / PLAN_FILE).write_bytes(data)
    refused(run("detect", bundle, photo, "--plan", "auto"), PLAN_FILE)
    old = tmp_path / "old.json"
    old.write_bytes(data)
    refused(run("profile", bundle, "--compare", old, "--cold-starts", 0, "--throughput", 0), "old.json")


@pytest.mark.parametrize("document", [DEEP, '{"a":' * 100_000, '{"input": Infinity}', "null", "[]", '"\\ud800"'])
def test_specs(document: str) -> None:
    with pytest.raises(ModelFileError):
        ModelSpec.from_json(document)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (DEEP, "expected a JSON document"),
        ("hello\x1b[2J", "expected a JSON document"),
        ("", "expected a JSON document"),
        ("[]", "expected a JSON document"),
        ("{}", "expected what edgedet says there, got something else"),
        ('{"python": 1, "modules": 2, "have": 3, "root": 4}', "expected what edgedet says there, got something else"),
    ],
)
def test_a_board_that_answers_something_else(
    answer: str, words: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    said.write_text(answer)
    script = tmp_path / "ssh"
    script.write_text(f"#!/bin/sh\ncat {said}\n")
    script.chmod(0o755)
    monkeypatch.setenv(SSH_VARIABLE, str(script))
    refused(run("profile", bundle, "--host", "board"), f"board: {words}")


@pytest.mark.parametrize("command", ["'unbalanced", "", " "])
def test_an_ssh_command_that_is_none(command: str, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SSH_VARIABLE, command)
    result = run("profile", bundle, "--host", "no-such-board.invalid")
    refused(result, "error: ")


def test_what_inspect_prints_of_a_file_commands_no_terminal(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["name"] = "evil\x1b[2J\u202e"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for more in ((), ("--json",)):
        shown = run("inspect", bundle, *more)
        assert "\x1b" not in shown.output
        assert "\u202e" not in shown.output
