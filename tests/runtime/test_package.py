"""The package as a whole: what it exports, and that it needs numpy and OpenCV alone."""

from __future__ import annotations

import subprocess
import sys
import types

import edgedet_runtime

BLOCKED = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "rich", "typer", "PIL")

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in {blocked!r}:
    sys.modules[name] = None
import edgedet_runtime
names = [m.name for m in pkgutil.walk_packages(edgedet_runtime.__path__, "edgedet_runtime.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


def test_all_is_sorted_and_complete() -> None:
    public = {
        name
        for name, value in vars(edgedet_runtime).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert edgedet_runtime.__all__ == sorted(edgedet_runtime.__all__)
    assert set(edgedet_runtime.__all__) == public


def test_every_module_imports_without_the_heavy_packages() -> None:
    script = IMPORT_ALL.format(blocked=BLOCKED)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) >= 25


def test_importing_loads_no_engine() -> None:
    script = f"import sys, edgedet_runtime; print([m for m in {BLOCKED!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
