"""Class names in every form in which checkpoints hold them."""

from __future__ import annotations

from typing import Any

import pytest

from edgedet_models.layer_list.names import class_names
from edgedet_runtime.errors import CheckpointError


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog"],
        ("cat", "dog"),
        {0: "cat", 1: "dog"},
        {1: "dog", 0: "cat"},
        {"0": "cat", "1": "dog"},
        {"cat": 0, "dog": 1},
        {"dog": 1, "cat": 0},
        {"cat": "0", "dog": "1"},
    ],
)
def test_forms(names: Any) -> None:
    assert class_names(names, 2) == ("cat", "dog")


def test_numbers_as_names() -> None:
    """A digit classifier's names are numbers too; its keys are the ids."""
    assert class_names({0: "1", 1: "0"}, 2) == ("1", "0")


@pytest.mark.parametrize("names", [None, [], {}, "helmet", 7])
def test_without_names(names: Any) -> None:
    assert class_names(names, 2) == ("class0", "class1")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["cat"], "expected 2, as the head has classes, got 1"),
        ({"helmet": 0}, "expected 2, as the head has classes, got 1"),
        ({0: "cat", 2: "dog"}, "expected ids 0 to 1, each with a name"),
        ({"cat": 1, "dog": 2}, "expected ids 0 to 1, each with a name"),
        ({"cat": "a", "dog": "b"}, "expected ids 0 to 1, each with a name"),
        ({True: "cat", False: "dog"}, "expected ids 0 to 1, each with a name"),
    ],
)
def test_names_that_do_not_fit(names: Any, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        class_names(names, 2)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
