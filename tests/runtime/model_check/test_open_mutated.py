"""Mutated models in every engine: none ends a process once our check let it through."""

from __future__ import annotations

import sys

import pytest

from tests.runtime.model_check.open_mutated import count_mutations


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and asks /proc for the address space")
def test_mutations_are_refused_or_run() -> None:
    counts = count_mutations(100, 7)
    for what, outcomes in counts.items():
        assert set(outcomes) <= {"refused", "passed", "ran", "refused by the engine"}, (what, outcomes)
    assert sum(counts[".onnx check"].values()) == sum(counts[".xml check"].values()) == 100
    assert counts[".onnx check"]["refused"] > 30
    assert counts[".onnx onnxruntime"]["ran"] > 10
