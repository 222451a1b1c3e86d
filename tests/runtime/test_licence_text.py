"""A license as files state it."""

from __future__ import annotations

from typing import Any

import pytest

from edgedet_runtime.licence_text import licence_of


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license": "AGPL-3.0 License (https://ultralytics.com/license)"}, "AGPL-3.0"),
        ({"license": "MIT License"}, "MIT"),
        ({"licence": "GPL-3.0-or-later"}, "GPL-3.0-or-later"),
        ({"license": "Apache License\n2.0"}, "Apache License 2.0"),
        ({"license": "x" * 200}, "x" * 80),
        ({"license": "  "}, None),
        ({"license": "?"}, None),
        ({"license": 7}, None),
        ({}, None),
    ],
)
def test_in_few_words(metadata: dict[str, Any], expected: str | None) -> None:
    assert licence_of(metadata) == expected
