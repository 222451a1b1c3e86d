"""Texts out of files: one line, nothing that commands a terminal."""

from __future__ import annotations

import pickle

import pytest

from edgedet_runtime import errors
from edgedet_runtime.errors import ArgumentError, EdgedetError, MissingDependencyError, StoppedError
from edgedet_runtime.printable import printable, shown

HOSTILE = "a\nb\x1b[2Jc\x85d\u2028e\u202ef\udc80g"
HARMLESS = r"a\x0ab\x1b[2Jc\x85d\u2028e\u202ef\udc80g"


def test_escapes() -> None:
    assert printable(HOSTILE) == HARMLESS
    assert printable("a\nb\tc", keep="\n") == "a\nb\\x09c"
    assert printable("Fußgänger 行人") == "Fußgänger 行人"


def test_names_of_files_are_short_and_on_one_line() -> None:
    assert shown("a\nb") == r"a\nb"
    assert shown("x" * 60) == "x" * 60
    assert shown("x" * 61) == "x" * 60 + "…"


ERRORS = [
    ArgumentError("conf", HOSTILE),
    MissingDependencyError(HOSTILE, "train", "training"),
    StoppedError(2, HOSTILE),
    *(
        getattr(errors, name)(HOSTILE)
        for name in errors.__all__
        if name not in ("ArgumentError", "MissingDependencyError", "StoppedError")
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_message_is_one_line(error: EdgedetError) -> None:
    assert HARMLESS in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("error", [EdgedetError(HOSTILE), ArgumentError("conf", HOSTILE)], ids=str)
def test_a_message_stays_in_another_process(error: EdgedetError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
