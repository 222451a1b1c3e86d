"""Simplify an ONNX model with onnxsim, at arm's length.

The simplifier crashes or changes results on some models (onnxsim#187, YOLOX#1286). So it runs in a process of its
own; whether its result is used is decided by comparing outputs, in the pipeline's parity ladder. If it fails, the
model stays as it was, and the reason is recorded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

__all__ = ["Simplified", "simplify"]

_TIMEOUT_S = 300
_CODE = """
import sys, onnx, onnxsim
model, ok = onnxsim.simplify(onnx.load(sys.argv[1]))
if not ok:
    sys.exit("onnxsim's own check failed")
onnx.save(model, sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Simplified:
    """Outcome of a simplification.

    Attributes:
        model: The simplified model, or the original one.
        nodes_before: Nodes before.
        nodes_after: Nodes after.
        declined: Why the original was kept; None if it was simplified.
    """

    model: onnx.ModelProto
    nodes_before: int
    nodes_after: int
    declined: str | None = None


def simplify(model: onnx.ModelProto) -> Simplified:
    """Simplify a model; on any failure of the simplifier, keep it and say why."""
    before = len(model.graph.node)
    with tempfile.TemporaryDirectory(prefix="edgedet-simplify-") as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        onnx.save(model, str(source))
        command = [sys.executable, "-c", _CODE, str(source), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return Simplified(model, before, before, f"onnxsim took more than {_TIMEOUT_S} s")
        if done.returncode != 0 or not target.exists():
            lines = done.stderr.strip().splitlines()
            return Simplified(model, before, before, f"onnxsim failed: {lines[-1] if lines else done.returncode}")
        result = onnx.load(str(target))
    same = [o.name for o in result.graph.output] == [o.name for o in model.graph.output]
    if not same:
        return Simplified(model, before, before, "onnxsim changed the names of the outputs")
    return Simplified(result, before, len(result.graph.node))
