"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedet_runtime.engines.openvino_package import refuse_telemetry
from tests.shared_folder import shared_folder

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["EDGEDET_TRIAL"] = "never"  # tests make their models themselves; those of trials ask for them
os.environ["EDGEDET_STATE"] = "none"
os.environ["EDGEDET_CACHE"] = "none"
refuse_telemetry()  # tests import OpenVINO by themselves too, and its telemetry would report from here, in a thread


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real checkpoints, photos and reference outputs, or skip.

    It is ``../shared`` beside the repository, or what ``EDGEDET_SHARED`` names.
    """
    folder = shared_folder()
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"interop: {folder} with real checkpoints and photos is not here (EDGEDET_SHARED names another)")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle of the color detector, the test's own."""
    from tests.cli.colors import write_bundle

    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def in_tmp(tmp_path: Path) -> Iterator[Path]:
    """Run the test inside its own empty folder."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
