"""What a board runs, as a program: one request in, one JSON document out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime.board_worker import run
from edgedet_runtime.doctor.findings import Finding, Report


def test_an_error_comes_back_in_the_document() -> None:
    request = json.dumps({"bundle": "/no/such/bundle"})
    done = subprocess.run(
        [sys.executable, "-m", "edgedet_runtime.board_worker", request],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"error", "exit_code"}
    assert "/no/such/bundle" in document["error"]
    assert document["exit_code"] == 2


@pytest.mark.parametrize(
    ("engines", "examined"), [(["openvino"], "openvino"), (["onnxruntime", "openvino"], None), (None, None)]
)
def test_the_doctor_looks_at_the_one_engine_that_was_named(
    engines: list[str] | None, examined: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def examine(bundle: Path, *, engine: str | None) -> Report:
        seen.append((bundle, engine))
        return Report(str(bundle), (Finding("files", "failure", "gone"),))

    monkeypatch.setattr("edgedet_runtime.doctor.examine", examine)
    document = run({"bundle": "b", **({} if engines is None else {"engines": engines}), "runs": 7})
    assert seen == [(Path("b"), examined)]
    assert document["profile"] is None
    assert document["doctor"]["exit_code"] == 1
