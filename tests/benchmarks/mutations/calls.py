"""Which test runs which function: learned once from a run without a fault, so that a trial runs few tests."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

__all__ = ["Calls", "Chooser", "Listener"]


class Listener:
    """A pytest plugin that writes down each test's duration and the project's functions that it calls."""

    def __init__(self, tree: Path, report: Path) -> None:
        """Listen to functions of files below `tree`; write JSON to `report` at the end."""
        self._tree, self._report = f"{tree}/", report
        self._names: dict[CodeType, str | None] = {}
        self._called: set[CodeType] = set()
        self._tests: dict[str, tuple[float, list[str]]] = {}

    def _hear(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code not in self._called:
            self._called.add(frame.f_code)

    def _name(self, code: CodeType) -> str | None:
        if code not in self._names:
            inside = code.co_filename.startswith(self._tree)
            function = getattr(code, "co_qualname", code.co_name).replace(".<locals>", "")
            self._names[code] = f"{code.co_filename[len(self._tree) :]}::{function}" if inside else None
        return self._names[code]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._called = set()
        start = time.monotonic()
        threading.setprofile(self._hear)
        sys.setprofile(self._hear)
        yield
        sys.setprofile(None)
        threading.setprofile(None)
        names = sorted({name for code in list(self._called) if (name := self._name(code)) is not None})
        self._tests[item.nodeid] = (time.monotonic() - start, names)

    def pytest_sessionfinish(self) -> None:
        self._report.write_text(json.dumps(self._tests), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Calls:
    """What a `Listener` wrote: by test, its duration in seconds and the functions that it calls."""

    tests: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, report: Path) -> Calls:
        """Read what a `Listener` wrote."""
        data = json.loads(report.read_text(encoding="utf-8"))
        return cls({test: (seconds, frozenset(names)) for test, (seconds, names) in data.items()})

    def callers(self, path: str, where: str) -> tuple[list[str], list[str]]:
        """Return the tests that can notice a fault, the quick ones first, and their files.

        Those that call the function come first; then the others of their files, which may share a fixture with them.
        For a fault outside functions, or in one that no test calls by itself, these are the callers of anything in the
        file; where there are none, all tests.

        Args:
            path: Source file, relative to the repository.
            where: Qualified name of the function, see `Mutation.where`.
        """
        exact = [test for test, (_, names) in self.tests.items() if _any_within(names, f"{path}::{where}")]
        direct = exact or [t for t, (_, names) in self.tests.items() if _any_within(names, path)] or list(self.tests)
        files = {_file(test) for test in direct}
        others = [test for test in self.tests if _file(test) in files and test not in set(direct)]

        def quick(tests: list[str]) -> list[str]:
            return sorted(tests, key=lambda test: self.tests[test][0])

        return quick(direct) + quick(others), sorted(files)


class Chooser:
    """A pytest plugin that runs the tests of a list, in its order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._rank = {test: i for i, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self._rank), key=lambda i: self._rank[i.nodeid])


def _file(test: str) -> str:
    return test.partition("::")[0]


def _any_within(names: frozenset[str], prefix: str) -> bool:
    return any(n == prefix or n.startswith((f"{prefix}.", f"{prefix}::")) for n in names)
