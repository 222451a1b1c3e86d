"""Roofs and what lies under them: the arithmetic on known figures, the probes against the engines themselves."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgedet_runtime.choices import EngineName
from edgedet_runtime.profiling.bandwidth import Bandwidth, last_cache_bytes, measure_bandwidth
from edgedet_runtime.profiling.layers import Layer
from edgedet_runtime.profiling.onnx_listing import read_listing
from edgedet_runtime.profiling.probe_model import Activations, ProbeShape, write_convolution
from edgedet_runtime.profiling.roofline import Peaks, measure_peaks, place, summarize_places

FLAT = Bandwidth(1, (1 << 20, 64 << 20), (10.0, 10.0))
PEAKS = Peaks("onnxruntime", 1, {"fp32": 100.0, "int8": 400.0}, {}, FLAT)

# 100 GMAC/s and 10 GB/s meet where 2 operations per MAC / byte = 20; a megabyte takes 0.1 ms, 10 MMACs do too.
MB, MMAC = 1_000_000, 1_000_000


@pytest.mark.parametrize(
    ("layer", "bound", "allowed_ms", "attained"),
    [
        (Layer("dense", "Conv", "fp32", 0.5, 20 * MMAC, MB), "compute", 0.2, 0.4),
        (Layer("depthwise", "Conv", "fp32", 0.5, 5 * MMAC, MB), "memory", 0.1, 0.2),
        (Layer("left of the ridge", "Conv", "fp32", 0.5, 9_900_000, MB), "memory", 0.1, 0.2),
        (Layer("right of the ridge", "Conv", "fp32", 0.5, 10_100_000, MB), "compute", 0.101, 0.202),
        (Layer("in int8", "Conv", "int8", 0.5, 20 * MMAC, MB), "memory", 0.1, 0.2),
        (Layer("concat", "Concat", "fp32", 0.4, 0, 2 * MB), "memory", 0.2, 0.5),
        (Layer("odd", "Conv", "bf16", 0.4, MMAC, MB), "unknown", None, None),
        (Layer("moved in bf16", "Concat", "bf16", 0.4, 0, 2 * MB), "memory", 0.2, 0.5),
        (Layer("too quick to tell", "Conv", "fp32", 0.0, 20 * MMAC, MB), "compute", 0.2, None),
        (Layer("above the roof", "Conv", "fp32", 0.1, 20 * MMAC, MB), "compute", 0.2, 2.0),
    ],
    ids=lambda value: value.name if isinstance(value, Layer) else None,
)
def test_place(layer: Layer, bound: str, allowed_ms: float | None, attained: float | None) -> None:
    at = place(layer, PEAKS)
    assert at.bound == bound
    assert at.allowed_ms == pytest.approx(allowed_ms)
    assert at.attained == pytest.approx(attained)
    if layer.time_ms:
        assert at.gmacs_per_s == pytest.approx(layer.macs / layer.time_ms / 1e6)
        assert at.gb_per_s == pytest.approx(layer.bytes / layer.time_ms / 1e6)
        roof = min(100.0, layer.intensity / 2 * 10.0)  # Williams et al.: min(peak, intensity x bandwidth)
        if layer.macs and layer.precision == "fp32":
            assert at.gmacs_per_s is not None
            assert at.gmacs_per_s / roof == pytest.approx(attained)
    else:
        assert (at.gmacs_per_s, at.gb_per_s) == (None, None)


def test_summary_is_weighted_by_time() -> None:
    layers = [
        Layer("a", "Conv", "fp32", 1.0, 40 * MMAC, MB),
        Layer("b", "Concat", "fp32", 0.6, 0, 2 * MB),
        Layer("c", "Conv", "bf16", 0.4, MMAC, MB),
    ]
    summary = summarize_places(layers, [place(layer, PEAKS) for layer in layers])
    assert summary is not None
    assert (summary.compute, summary.memory, summary.unknown) == pytest.approx((0.5, 0.3, 0.2))
    assert summary.attained == pytest.approx((0.4 + 0.2) / 1.6)
    assert summarize_places([], []) is None


def test_a_layer_above_its_roof_hides_no_other() -> None:
    layers = [Layer("in place", "Reshape", "fp32", 0.01, 0, 10 * MB), Layer("b", "Conv", "fp32", 0.99, 20 * MMAC, MB)]
    summary = summarize_places(layers, [place(layer, PEAKS) for layer in layers])
    assert summary is not None
    assert summary.attained == pytest.approx(0.01 + 0.2)


def test_bandwidth_between_and_beyond_the_measured_sizes() -> None:
    bandwidth = Bandwidth(1, (100, 10_000), (64.0, 4.0))
    assert bandwidth.at(100) == bandwidth.at(1) == bandwidth.at(0) == pytest.approx(64.0)
    assert bandwidth.at(10_000) == bandwidth.at(10**9) == pytest.approx(4.0)
    assert bandwidth.at(1000) == pytest.approx(16.0)
    assert (bandwidth.cache_gb_per_s, bandwidth.memory_gb_per_s) == (64.0, 4.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_bandwidth_is_measured(threads: int) -> None:
    bandwidth = measure_bandwidth(threads, sizes=[1 << 20, 1 << 24], samples=1)
    assert (bandwidth.threads, bandwidth.touched_bytes) == (threads, (1 << 20, 1 << 24))
    assert all(0.05 < rate < 5000 for rate in bandwidth.gb_per_s)


def test_last_cache(tmp_path: Path) -> None:
    assert last_cache_bytes(tmp_path) is None
    for index, size in enumerate(("48K", "2048K", "32M", "what")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == 32 << 20


TINY = ProbeShape(32, 3, (9, 11))


@pytest.mark.parametrize("activations", ["float32", "uint8", "int8"])
def test_probe_is_onnx_and_computes_a_convolution(tmp_path: Path, activations: Activations) -> None:
    """In levels: of the input, whole numbers; of the output, at most one apart where a sum lies between two."""
    ort = pytest.importorskip("onnxruntime")
    path = write_convolution(tmp_path / "probe.onnx", TINY, activations)
    kinds = [node.op_type for node in read_listing(path).nodes]
    assert kinds.count("Conv") == 1
    assert kinds.count("QuantizeLinear") == (0 if activations == "float32" else 2)
    x = np.random.default_rng(2).random(TINY.input_shape, np.float32)
    (y,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    weights = np.random.default_rng(0).integers(-64, 64, (32, 32, 3, 3)) / 128
    highest = 1.0 if activations == "float32" else float(np.iinfo(activations).max)
    read = x[0] if activations == "float32" else np.rint(x[0] * np.float32(highest)) / highest
    padded = np.pad(read, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = np.einsum("chwij,ocij->ohw", windows, weights)
    if activations == "float32":
        np.testing.assert_allclose(y[0], expected, atol=1e-5)
        return
    step = 4 * np.sqrt(32 * 9) / 6 / highest
    levels = np.clip(np.rint(expected / step), 0 if activations == "uint8" else -128, highest)
    assert levels.std() > 10
    off = np.abs(y[0] / step - levels)
    assert off.max() < 1.001
    assert (off > 0.001).mean() < 0.01


def test_probe_passes_the_checker(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    for activations in get_args(Activations):
        path = write_convolution(tmp_path / "probe.onnx", TINY, activations)
        onnx.checker.check_model(str(path), full_check=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_peaks_are_measured_by_the_engine(engine: EngineName) -> None:
    pytest.importorskip(engine)
    peaks = measure_peaks(engine, 1, FLAT, shapes=[ProbeShape(64, 1, (24, 24))])
    assert (peaks.engine, peaks.threads, peaks.bandwidth) == (engine, 1, FLAT)
    assert 0.01 < peaks.gmacs_per_s["fp32"] < 10_000
    assert peaks.gmacs_per_s.keys() | peaks.missing.keys() == {"fp32", "int8"}
    assert not peaks.gmacs_per_s.keys() & peaks.missing.keys()


def test_precision_that_did_not_run_has_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that computes the INT8 probe in float must not pass as an INT8 peak; one that refuses is heard."""
    from edgedet_runtime.errors import EngineError
    from edgedet_runtime.profiling import roofline

    def falls_back(*_: object, **__: object) -> tuple[Layer, ...]:
        return (Layer("c", "Conv", "fp32", 2.0, TINY.macs, 1), Layer("q", "QuantizeLinear", "int8", 9.0, 0, 1))

    monkeypatch.setattr(roofline, "profile_layers", falls_back)
    peaks = measure_peaks("onnxruntime", 1, FLAT, shapes=[TINY])
    assert peaks.gmacs_per_s == {"fp32": pytest.approx(TINY.macs / 2e6)}
    assert peaks.missing == {"int8": "onnxruntime ran the probe in fp32 on this CPU"}

    def refuses(*_: object, **__: object) -> tuple[Layer, ...]:
        raise EngineError("no reader for ONNX")

    monkeypatch.setattr(roofline, "profile_layers", refuses)
    peaks = measure_peaks("openvino", 1, FLAT, shapes=[TINY])
    assert peaks.missing == {"fp32": "no reader for ONNX", "int8": "no reader for ONNX"}
    assert place(Layer("c", "Conv", "fp32", 1.0, 10, 10), peaks).bound == "unknown"


@pytest.mark.parametrize(
    ("size", "size_bytes"), [("48K", 48 << 10), ("2M", 2 << 20), ("512", 512), ("x", None), ("", None)]
)
def test_sizes_of_caches(size: str, size_bytes: int | None, tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cache/index0"
    folder.mkdir(parents=True)
    (folder / "size").write_text(f"{size}\n")
    assert last_cache_bytes(tmp_path) == size_bytes


def test_a_probe_counts_every_product() -> None:
    assert ProbeShape(32, 3, (9, 11)).macs == 32 * 32 * 3 * 3 * 9 * 11
    assert ProbeShape(32, 3, (9, 11)).input_shape == (1, 32, 9, 11)


def test_probes_suit_vector_units_and_threads() -> None:
    """Channels fill registers of 16 floats or 64 bytes, rows divide among eight threads, kernels have a center."""
    from edgedet_runtime.profiling.roofline import _SHAPES

    assert {shape.kernel for shape in _SHAPES} == {1, 3}
    for shape in _SHAPES:
        assert shape.channels % 64 == 0
        assert shape.macs > 50_000_000
        assert [side % 8 for side in shape.size_hw] == [0, 0]
