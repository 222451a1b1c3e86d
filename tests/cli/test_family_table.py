"""The docs' table of families is what the code gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet.family_table import FamilyRow, family_rows, to_markdown

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


@pytest.mark.slow
def test_the_page_is_up_to_date() -> None:
    rows = family_rows()
    by_name = {row.name: row for row in rows}
    assert by_name["ultralytics"].heads == (
        "dfl (cls)",
        "dfl (cls, no NMS)",
        "ltrb (cls, no NMS)",
        "ltrb (cls)",
        "queries (cls, no NMS)",
    )
    assert by_name["yolov5"].heads == ("anchors (obj*cls)",)
    assert PAGE.read_text(encoding="utf-8") == to_markdown(rows), "python -m edgedet.family_table > docs/families.md"


def test_long_lists_are_counted() -> None:
    row = FamilyRow("x", "X", ("state dict",), ("ltrb (cls)",), tuple(f"x{i}" for i in range(6)), "MIT")
    assert to_markdown([row]).splitlines()[-1] == ("| x | X | state dict | ltrb (cls) | x0, x1, x2, x3, … (6) | MIT |")
