"""Numbers on the command line: what no option takes, whatever its range."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer

from edgedet.cli import app
from edgedet.commands.numbers import RATE, SHARE, Real, Whole
from tests.cli.colors import refused, run


def plain_types(kind: object) -> list[object]:
    return [kind, *(inner for part in get_args(kind) for inner in plain_types(part))]


def options() -> list[tuple[str, str, Whole | Real]]:
    """Return command, parameter and type of every option that is a number."""
    found = []
    todo = [("", app)]
    while todo:
        words, group = todo.pop()
        todo += [
            (f"{words} {inner.name}".strip(), inner.typer_instance)
            for inner in group.registered_groups
            if inner.typer_instance
        ]
        for command in group.registered_commands:
            assert command.callback is not None
            name = f"{words} {command.name or command.callback.__name__}".strip()
            for parameter, hint in get_type_hints(command.callback, include_extras=True).items():
                kind, *facts = get_args(hint) if get_origin(hint) is Annotated else (hint,)
                if not {int, float} & set(plain_types(kind)):
                    continue
                reader = facts[0].parser
                assert isinstance(reader, (Whole, Real)), f"{name} {parameter}: expected a type of `numbers`"
                found.append((name, parameter, reader))
    return found


def test_every_numeric_option_has_a_type_of_its_own() -> None:
    assert {parameter for _, parameter, _ in options()} >= {
        *("threads", "conf", "iou", "imgsz", "max_drop", "max_float", "seed", "runs", "throughput_s", "max_det"),
        *("max_frames", "limit", "count", "processes", "hours", "learning_rate", "version", "requests", "batch"),
    }


@pytest.mark.parametrize("case", options(), ids=lambda case: f"{case[0]} {case[1]}")
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "-1", str(2**64), "9" * 5000, "1_0", "x", ""])
def test_no_number_within_the_range(case: tuple[str, str, Whole | Real], text: str) -> None:
    _, _, kind = case
    with pytest.raises(typer.BadParameter, match=r"^expected a (whole )?number (from|above) ") as caught:
        kind(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "words",
    [
        ("detect", "x.jpg", "--threads", "2147483648"),
        ("detect", "x.jpg", "--threads", "0"),
        ("detect", "x.jpg", "--conf", "nan"),
        ("detect", "x.jpg", "--iou", "Infinity"),
        ("detect", "x.jpg", "--max-det", "1e3"),
        ("export", "x.pt", "--max-drop", "nan"),
        ("export", "x.pt", "--imgsz", "64", "1000000000"),
        ("export", "x.pt", "--imgsz", "0", "64"),
        ("export", "x.pt", "--seed", "9" * 30),
        ("profile", "x", "--threads", "1,2147483648"),
        ("profile", "x", "--runs", "0"),
        ("profile", "x", "--throughput", "nan"),
        ("compare", "x", "--threads", "nan"),
        ("train", "x", "y", "--hours", "nan"),
        ("train", "x", "y", "--sizes", "256:inf"),
        ("train", "x", "y", "--sizes", "99999999999:1"),
        ("scenes", "x", "--count", "-1"),
    ],
    ids=" ".join,
)
def test_refused_in_a_sentence_that_names_the_flag(words: tuple[str, ...], tmp_path: Path) -> None:
    flag = next(word for word in words if word.startswith("--"))
    refused(run(*words), f"{flag}: expected a", "number")


def test_what_is_taken() -> None:
    assert Whole(1, 1024)("1024") == 1024
    assert Whole(0, 5)(" 0 ") == 0
    assert (SHARE("0"), SHARE("1"), SHARE("1e-3")) == (0.0, 1.0, 0.001)
    with pytest.raises(typer.BadParameter, match="expected a number above 0, up to 100, got '0'"):
        RATE("0")
    assert math.isclose(RATE("0.01"), 0.01)
