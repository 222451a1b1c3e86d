"""Fixtures of signed bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedet_runtime.bundle.keys import KEY_VARIABLE, make_keys
from edgedet_runtime.state_folder import STATE_VARIABLE


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return a private key, with its public one beside it."""
    pytest.importorskip("cryptography")
    make_keys(tmp_path / "owner.pem")
    return tmp_path / "owner.pem"


@pytest.fixture
def device(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process a device that trusts the key; return the folder of what it remembers."""
    monkeypatch.setenv(KEY_VARIABLE, str(key.with_suffix(".pub")))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"
