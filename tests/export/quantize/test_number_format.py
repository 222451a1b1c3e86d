"""8-bit formats fit the multiplications of a kind of CPU."""

from __future__ import annotations

import platform

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edgedet_export.quantize import TARGETS, QuantConfig, measure
from edgedet_export.quantize import number_format as subject
from edgedet_export.quantize.number_format import CpuKind, this_cpu
from edgedet_export.quantize.trials import Recipe, Workbench
from edgedet_runtime.engines import EngineName

from .tiny_detector import pictures, tiny_detector


@pytest.mark.parametrize(
    ("machine", "features", "kind"),
    [
        ("x86_64", {"avx2", "vnni"}, "vnni"),
        ("AMD64", {"avx2"}, "avx2"),
        ("x86_64", set(), "avx2"),
        ("aarch64", {"dotprod"}, "dotprod"),
        ("arm64", {"neon"}, "neon"),
        ("armv7l", {"neon"}, "neon"),
        ("ARMv8l", {"dotprod", "vnni"}, "dotprod"),
    ],
)
def test_kind_of_this_cpu(monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], kind: CpuKind) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(subject, "cpu_features", lambda: frozenset(features))
    assert this_cpu() == kind
    assert QuantConfig().cpu_kind == kind
    assert QuantConfig(cpu="avx2").cpu_kind == "avx2"


def saturating_pair_sums(codes: npt.NDArray[np.uint8], weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Return dot products as vpmaddubsw takes them: the products of two neighbors are added in int16, saturating.

    Args:
        codes: Activations (N, K), K even.
        weights: (O, K).
    """
    products = codes.astype(np.int32)[:, None] * weights.astype(np.int32)[None]
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(axis=3)
    return np.asarray(np.clip(pairs, -(1 << 15), (1 << 15) - 1).sum(axis=2), np.int64)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("cpu", "exact"), [("avx2", True), ("vnni", False)])
def test_pairs_of_products_do_not_saturate_on_avx2(engine: EngineName, cpu: CpuKind, exact: bool) -> None:
    """Two products of bytes must fit 16 bits there, in any order of the inputs; with VNNI they may exceed them."""
    model, spec = tiny_detector()
    config = QuantConfig(engine, threads=1, cpu=cpu)
    work = Workbench(measure(model, spec, pictures(2), config), spec, config)
    model = work.build(work.plan(Recipe("mse")))
    stored = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("/w/codes")]
    assert len(stored) >= 8
    same = []
    for weights in stored:
        largest = np.sort(np.abs(weights.reshape(-1).astype(np.int16)))[::-1][: weights.size // 2 * 2]
        worst = np.concatenate([largest, -largest]).reshape(2, -1).astype(np.int8)
        codes = np.full((1, worst.shape[1]), 255, np.uint8)
        plain = codes.astype(np.int64) @ worst.astype(np.int64).T
        same.append(bool((saturating_pair_sums(codes, worst) == plain).all()))
    assert all(same) is exact
    assert any(same) is exact
    assert this_cpu() in work.target.number_formats


def test_avx2_weights_use_the_bits_that_there_are() -> None:
    for target in TARGETS.values():
        limit = target.number_formats["avx2"].weight_limit
        assert 2 * 255 * limit <= (1 << 15) - 1 < 2 * 255 * (limit + 2), "a symmetric grid of seven bits"
        formats = {kind: (f.activations, f.weight_limit) for kind, f in target.number_formats.items() if kind != "avx2"}
        assert formats == {"vnni": ("uint8", 127), "dotprod": ("int8", 127), "neon": ("int8", 127)}
        assert this_cpu() in target.number_formats
