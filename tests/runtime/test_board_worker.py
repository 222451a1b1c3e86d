"""What a board runs, as a program: one request in, one JSON document out."""

from __future__ import annotations

import json
import os
import subprocess
import sys


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
