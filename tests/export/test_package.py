"""The export package as a whole: its public surface, and what reading options costs."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys

import pytest

import edgedet_export


def test_all_is_sorted_and_complete() -> None:
    assert edgedet_export.__all__ == sorted(edgedet_export.__all__)
    assert set(dir(edgedet_export)) == set(edgedet_export.__all__)
    for name in edgedet_export.__all__:
        found = getattr(edgedet_export, name)
        assert getattr(found, "__name__", name) in (name, "Callable")
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        edgedet_export.exprot  # noqa: B018


def test_it_is_typed() -> None:
    assert importlib.resources.files(edgedet_export).joinpath("py.typed").is_file()


def test_options_load_neither_torch_nor_an_engine() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino")
    script = (
        f"import sys, edgedet_export; edgedet_export.ExportConfig(); print([m for m in {heavy!r} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
