"""The mutation check itself: its faults are where it says, and a survivor is told from one that is noticed."""

from __future__ import annotations

import ast
import json

import pytest

from tests.benchmarks.mutations.calls import Calls
from tests.benchmarks.mutations.named import NAMED, NamedFault
from tests.benchmarks.mutations.rooms import ROOMS
from tests.benchmarks.mutations.sites import mutations_of, sample_key
from tests.shared_folder import ROOT

SOURCE = '''"""Text: 1 + 1."""

__all__ = ["f"]
LIMIT = 1.5


def f(x: int, y: int = 2) -> int:
    """Return 3."""
    if x < y <= 9 and not y:
        raise ValueError(f"{x[:5]} is 7")
    x += 1
    g(x)
    return max(x, 4) - y
'''

FAULTS = {
    "1.5 => 1.6500000000000001",
    "1.5 => 1.35",
    "2 => 3",
    "2 => 1",
    "x < y <= 9 => (x <= y <= 9)",
    "x < y <= 9 => (x < y < 9)",
    "9 => 10",
    "9 => 8",
    "x < y <= 9 and not y => ((x < y <= 9) or (not y))",
    "x < y <= 9 and not y => ((x < y <= 9))",
    "x < y <= 9 and not y => ((not y))",
    "not y => (y)",
    'raise ValueError(f"{x[:5]} is 7") => pass',
    "x += 1 => pass",
    "1 => 2",
    "1 => 0",
    "g(x) => pass",
    "max => min",
    "4 => 5",
    "4 => 3",
    "max(x, 4) - y => ((max(x, 4)) + (y))",
    "max(x, 4) - y => (max(x, 4))",
}


def test_faults_of_a_file() -> None:
    found = mutations_of(SOURCE, "a.py")
    assert {m.name.split(" | ")[-1] for m in found} == FAULTS
    assert len({m.name for m in found}) == len(found)
    for mutation in found:
        text = mutation.apply(SOURCE)
        ast.parse(text)
        assert len(text) - len(SOURCE) == len(mutation.new) - len(mutation.old)
        assert mutation.new in text.splitlines()[mutation.line - 1]


def test_the_draw_does_not_depend_on_other_faults() -> None:
    alone = sorted(mutations_of(SOURCE, "a.py"), key=lambda m: sample_key(m, 3))
    more = sorted(mutations_of(SOURCE + "\n\nMORE = 5\n", "a.py"), key=lambda m: sample_key(m, 3))
    assert [m.name for m in more if "MORE" not in m.name] == [m.name for m in alone]
    assert alone != sorted(alone, key=lambda m: sample_key(m, 4))


@pytest.mark.parametrize("fault", NAMED, ids=lambda fault: fault.what)
def test_named_faults_stand_where_the_list_says(fault: NamedFault) -> None:
    """Whoever changes the line takes the fault along; otherwise it is no longer tried."""
    assert fault.room in ROOMS
    source = (ROOT / fault.path).read_text(encoding="utf-8")
    assert source.count(fault.old) == 1
    ast.parse(source.replace(fault.old, fault.new))


def test_tests_that_call_a_function_come_first_and_quick_ones_before_slow_ones() -> None:
    calls = Calls(
        {
            "a.py::slow": (2.0, frozenset({"m.py::C.f", "m.py::g"})),
            "a.py::quick": (1.0, frozenset({"m.py::C.f.<lambda>"})),
            "a.py::other": (0.1, frozenset({"m.py::gg"})),
            "b.py::far": (0.1, frozenset({"n.py::g"})),
        }
    )
    assert calls.callers("m.py", "C.f") == (["a.py::quick", "a.py::slow", "a.py::other"], ["a.py"])
    assert calls.callers("m.py", "g") == (["a.py::slow", "a.py::other", "a.py::quick"], ["a.py"])
    assert calls.callers("m.py", "module") == (["a.py::other", "a.py::quick", "a.py::slow"], ["a.py"])
    assert calls.callers("o.py", "g")[1] == ["a.py", "b.py"]


def test_rooms_and_reasons_are_there() -> None:
    for room in ROOMS.values():
        assert (ROOT / room.source).exists()
        assert all((ROOT / name).exists() for name in room.tests)
    for entry in json.loads((ROOT / "tests/benchmarks/mutations/equivalent.json").read_text(encoding="utf-8")):
        assert (ROOT / entry["fault"].partition("::")[0]).is_file()
        assert entry["why"]
