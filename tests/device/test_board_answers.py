"""A board whose answers are not what edgedet says there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgedet.device.remote import SSH_VARIABLE
from tests.cli.colors import refused, run

FACTS: dict[str, Any] = {
    "root": "/tmp/cache",
    "have": [],
    "modules": ["numpy", "cv2", "onnxruntime"],
    "machine": "aarch64",
    "python": [3, 11],
    "executable": "/usr/bin/python3",
}
FINDING = {"check": "files", "status": "failure", "detail": "missing"}
DOCTOR = {"bundle": "b", "findings": [FINDING], "verdict": "never mind", "exit_code": 0}


def board(folder: Path, monkeypatch: pytest.MonkeyPatch, facts: str, worker: str) -> None:
    """Put a program in ssh's place that says two things, whatever it is sent."""
    (folder / "facts").write_text(facts + "\n")
    (folder / "worker").write_text(worker + "\n")
    script = folder / "ssh"
    script.write_text(
        f'#!/bin/sh\ncat > /dev/null\ncase "$*" in *board_worker*) cat {folder}/worker;; *) cat {folder}/facts;; esac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv(SSH_VARIABLE, str(script))


@pytest.mark.parametrize(
    "facts",
    [
        "",
        "Welcome to your board",
        "[]",
        "NaN",
        "[" * 100_000,
        json.dumps({**FACTS, "python": ["three", 11]}),
        json.dumps({**FACTS, "python": 3}),
        json.dumps({**FACTS, "have": [["a"]]}),
        json.dumps({k: v for k, v in FACTS.items() if k != "machine"}),
    ],
)
def test_facts_that_are_none(facts: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board(tmp_path, monkeypatch, facts, "{}")
    refused(run("profile", bundle, "--host", "board"), "board: expected", "got")


@pytest.mark.parametrize(
    "worker",
    [
        "Killed",
        "{}",
        json.dumps({"doctor": 1, "profile": None}),
        json.dumps({"doctor": {**DOCTOR, "findings": 7}, "profile": None}),
        json.dumps({"doctor": {**DOCTOR, "findings": [{**FINDING, "status": "sad"}]}, "profile": None}),
        json.dumps({"doctor": DOCTOR, "profile": {"format": 99}}),
        json.dumps({"doctor": DOCTOR, "profile": [1]}),
    ],
)
def test_a_report_that_is_none(worker: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board(tmp_path, monkeypatch, json.dumps(FACTS), worker)
    refused(run("profile", bundle, "--host", "board"), "board: expected", "got")


def test_the_exit_code_is_that_of_the_findings(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board(tmp_path, monkeypatch, json.dumps(FACTS), json.dumps({"doctor": DOCTOR, "profile": None}))
    result = run("profile", bundle, "--host", "board")
    assert result.exit_code == 1
    assert "unfit: files: missing" in result.stdout
