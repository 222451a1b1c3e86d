"""JSON files, and frozen dataclasses out of JSON: each refusal says where and what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.from_json import from_json, parse_json, read_json


@dataclass(frozen=True)
class Inner:
    n: int


@dataclass(frozen=True)
class Outer:
    number: float
    pair: tuple[int, str]
    many: tuple[Inner, ...] = ()
    table: dict[str, float] = field(default_factory=dict)
    maybe: Inner | None = None
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    text: str = ""


GOOD: dict[str, Any] = {"number": 1.5, "pair": [1, "x"]}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GOOD, Outer(1.5, (1, "x"))),
        ({**GOOD, "number": 2, "unheard": [1]}, Outer(2.0, (1, "x"))),
        (
            {**GOOD, "many": [{"n": 1}, {"n": 2}], "maybe": {"n": 3}},
            Outer(1.5, (1, "x"), (Inner(1), Inner(2)), {}, Inner(3)),
        ),
        (
            {**GOOD, "many": [], "maybe": None, "table": {"a": 1}, "kind": "b"},
            Outer(1.5, (1, "x"), (), {"a": 1.0}, None, "b"),
        ),
        ({**GOOD, "flag": True, "text": "t"}, Outer(1.5, (1, "x"), flag=True, text="t")),
    ],
)
def test_data_that_fits(data: dict[str, Any], expected: Outer) -> None:
    found = from_json(Outer, data)
    assert found == expected
    assert isinstance(found.number, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "document: expected an object, got []"),
        ({"pair": [1, "x"]}, "document: number is missing"),
        ({"number": 1.5}, "document: pair is missing"),
        ({**GOOD, "number": True}, "document.number: expected float, got True"),
        ({**GOOD, "number": "1"}, "document.number: expected float, got '1'"),
        ({**GOOD, "number": 1 << 2000}, "document.number: expected a number below 1.8e308, got one of 2001 bits"),
        ({**GOOD, "pair": [1]}, "document.pair: expected a list of tuple[int, str], got [1]"),
        ({**GOOD, "pair": [1, "x", "y"]}, "document.pair: expected a list of tuple[int, str], got [1, 'x', 'y']"),
        ({**GOOD, "pair": "1x"}, "document.pair: expected a list of tuple[int, str], got '1x'"),
        ({**GOOD, "pair": [True, "x"]}, "document.pair[0]: expected int, got True"),
        ({**GOOD, "pair": [1.0, "x"]}, "document.pair[0]: expected int, got 1.0"),
        ({**GOOD, "pair": [1, 2]}, "document.pair[1]: expected str, got 2"),
        ({**GOOD, "many": [{"n": 1}, {}]}, "document.many[1]: n is missing"),
        ({**GOOD, "many": {"n": 1}}, "document.many: expected a list"),
        ({**GOOD, "maybe": []}, "document.maybe: expected an object, got []"),
        ({**GOOD, "table": []}, "document.table: expected an object, got []"),
        ({**GOOD, "table": {"a": None}}, "document.table.a: expected float, got None"),
        ({**GOOD, "kind": "c"}, "document.kind: expected one of ('a', 'b'), got 'c'"),
        ({**GOOD, "flag": 1}, "document.flag: expected bool, got 1"),
        ({**GOOD, "text": {}}, "document.text: expected str, got {}"),
        ({**GOOD, "kind": "x" * 99}, "got '" + "x" * 27 + "..."),
    ],
)
def test_data_that_does_not(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected|missing") as caught:
        from_json(Outer, data)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 120


def test_messages_begin_with_the_place_that_was_named() -> None:
    with pytest.raises(ValueError, match=r"^plan\.n: expected int"):
        from_json(Inner, {"n": "1"}, at="plan")


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[Infinity]"])
def test_what_json_has_no_number_for(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text.strip('[]')} is no JSON number"):
        parse_json(text)


def test_numbers_that_no_machine_number_holds() -> None:
    assert parse_json("[1e308, -1e308, 1e-400]") == [1e308, -1e308, 0.0]
    for text in ("1e309", "-1e309"):
        with pytest.raises(ValueError, match=f"^{text} is too large a number$"):
            parse_json(text)
    with pytest.raises(ValueError, match=f"^{'9' * 20} is too large a number$"):
        parse_json("9" * 400 + ".0")
    bounds = [-(1 << 63), (1 << 64) - 1]
    assert parse_json(str(bounds)) == bounds
    for beyond in (bounds[0] - 1, bounds[1] + 1, 10**5000):
        text = str(beyond) if beyond < 10**5000 else "1" + "0" * 5000
        with pytest.raises(ValueError, match=f"^{text[:20]} is too large a number$"):
            parse_json(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON"),
        (b"[" * 200_000, r"cannot be read as JSON \(it is nested too deeply\)$"),
        (b"[NaN]", r"cannot be read as JSON \(NaN is no JSON number\)$"),
    ],
)
def test_files_that_are_none(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"a\.json: {words}"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ModelFileError, match=r"gone\.json: cannot be read \(No such file or directory\)$"):
        read_json(tmp_path / "gone.json")
