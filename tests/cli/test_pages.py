"""What pages and tables share."""

from __future__ import annotations

import pytest

from edgedet.html.page import number


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.005, 1, "1.0"), (-0.004, 2, "0.00"), (-0.006, 2, "-0.01"), (None, 2, ""), (12.0, 0, "12")],
)
def test_numbers(value: float | None, digits: int, text: str) -> None:
    assert number(value, digits) == text
