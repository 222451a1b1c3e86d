"""A process that has loaded one side of a comparison and waits: asked in turns with the others, line by line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["WaitingProcess"]


class WaitingProcess:
    """One side; it answers with lines of ``ANSWER`` and JSON, the first one when it has its first result.

    Attributes:
        first: What it said of its start; ``first`` in it is the time of the first result, by the monotonic clock.
        first_s: Seconds from its start to its first result.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Start the process and wait for its first result."""
        start = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(environment),
        )
        self.first = self._answer()
        self.first_s = float(self.first["first"]) - start

    def ask(self, request: str) -> Any:
        """Write a line and return the answer to it."""
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> Any:
        assert self._process.stdout is not None, "opened as a pipe"
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise SystemExit(f"a worker ended early: {self._process.args!r}")
