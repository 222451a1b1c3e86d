"""The numbers behind the sensitivity of layers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.plan import Grid
from edgedet_export.quantize.ranges import TensorStatistics
from edgedet_export.quantize.sensitivity import QuantizedInput, channel_sqnr_db, distortion, rank_layers
from edgedet_runtime.candidates import sigmoid
from edgedet_runtime.spec import BoxKind, DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

Floats = npt.NDArray[np.float32]


def contract(levels: int, *, anchors: bool, objectness: bool) -> ModelSpec:
    made = tuple(
        LevelSpec(
            stride=8 * 2**i,
            boxes=f"boxes_{i}",
            scores=f"scores_{i}",
            objectness=f"objectness_{i}" if objectness else None,
            anchors_px=((10.0, 12.0), (24.0, 18.0)) if anchors else (),
            scale_xy=2.0 if anchors else 1.0,
        )
        for i in range(levels)
    )
    kind: BoxKind = "anchors" if anchors else "ltrb"
    return ModelSpec(
        family="custom",
        variant="tiny",
        input=InputSpec("images", 64, 64),
        resize=ResizeSpec(),
        decode=DecodeSpec(kind, made, score="obj*cls" if objectness else "cls"),
        classes=("a", "b", "c"),
    )


def test_distortion_of_one_level() -> None:
    spec = contract(1, anchors=False, objectness=False)
    scores = np.full((1, 3, 2, 2), -20.0, np.float32)
    scores[0, 1, 0, 1] = 0.0  # p = 1/2 at one cell, next to nothing elsewhere
    boxes = np.zeros((1, 4, 2, 2), np.float32)
    reference = {"scores_0": scores, "boxes_0": boxes}
    assert distortion(reference, reference, spec) == 0.0
    shifted = {**reference, "scores_0": np.where(scores == 0, np.float32(np.log(3)), scores)}  # p = 3/4
    assert distortion(reference, shifted, spec) == pytest.approx(0.5, abs=1e-6)
    moved = boxes.copy()
    moved[0, :, 0, 1] = (1.0, -3.0, 0.0, 0.0)
    moved[0, :, 1, 1] = 100.0  # where nothing is detected
    assert distortion(reference, {**reference, "boxes_0": moved}, spec) == pytest.approx(1.0, abs=1e-5)


def test_distortion_weighs_each_anchor_by_its_own_confidence() -> None:
    spec = contract(2, anchors=True, objectness=True)
    rng = np.random.default_rng(0)

    def outputs() -> dict[str, Floats]:
        channels = {"boxes": 8, "scores": 6, "objectness": 2}
        return {
            f"{name}_{level}": rng.normal(0, 2, (1, count, 2 * size, size)).astype(np.float32)
            for level, size in enumerate((3, 2))
            for name, count in channels.items()
        }

    reference, other = outputs(), outputs()
    expected = 0.0
    for level, size in enumerate((3, 2)):
        moved = errors = confident = weights = 0.0
        for anchor in range(2):
            for y in range(2 * size):
                for x in range(size):
                    p, q = (
                        sigmoid(o[f"objectness_{level}"][0, anchor, y, x])
                        * sigmoid(o[f"scores_{level}"][0, 3 * anchor : 3 * anchor + 3, y, x])
                        for o in (reference, other)
                    )
                    boxes = slice(4 * anchor, 4 * anchor + 4)
                    a, b = (o[f"boxes_{level}"][0, boxes, y, x] for o in (reference, other))
                    moved += float(np.abs(q - p).sum())
                    confident += float(p.sum())
                    errors += float(np.abs(b - a).mean() * p.max())
                    weights += float(p.max())
        expected += moved / confident + errors / weights
    assert distortion(reference, other, spec) == pytest.approx(expected / 2, rel=1e-5)


def statistics(*channels: list[float]) -> TensorStatistics:
    found = TensorStatistics()
    found.update(np.array([channels], np.float32))
    return found


def layer(name: str) -> ConvLayer:
    return ConvLayer(name, "Conv", f"{name}_in", f"{name}_w", None, (1, 1, 1, 1), 1, 1000, False, True)


def test_signal_to_noise_per_channel() -> None:
    grid = Grid(0.5, 0, False)
    found = channel_sqnr_db(statistics([3.0, -4.0], [0.0, 0.0], [0.05, 0.05]), grid)
    noise = 0.5**2 / 12
    assert found[:1] == pytest.approx([10 * np.log10(12.5 / noise)])
    assert found[1] == np.inf
    assert found[2] == pytest.approx(10 * np.log10(0.0025 / noise), abs=1e-4)


def test_layers_are_ranked_and_described() -> None:
    grid = Grid(0.5, 0, False)
    loud, dead = statistics([3.0, -4.0], [0.0, 0.0], [0.05, 0.05]), statistics([0.0, 0.0])
    inputs = [QuantizedInput(layer("dead"), grid, dead), QuantizedInput(layer("loud"), grid, loud)]
    said: list[str] = []
    worst, least = rank_layers(inputs, lambda la: {"dead": 0.1, "loud": 0.7}[la.id], said.append)
    assert said == ["measuring single layers, 1 of 2", "measuring single layers, 2 of 2"]
    assert (worst.layer, worst.effect, worst.macs, worst.low, worst.high) == ("loud", 0.7, 1000, -4.0, 3.0)
    noise = 0.5**2 / 12
    assert worst.sqnr_db == pytest.approx(10 * np.log10((12.5 + 0.0025) / 3 / noise), abs=1e-4)
    assert worst.worst_channel_db == pytest.approx(10 * np.log10(0.0025 / noise), abs=1e-4)
    assert worst.poor_channels == 0.5, "of the two that carry a signal"
    assert worst.outlier_ratio == pytest.approx(7e12), "the median channel has no range at all"
    assert (least.layer, least.poor_channels, least.outlier_ratio) == ("dead", 0.0, 0.0)
    assert least.worst_channel_db == least.sqnr_db
    tied = rank_layers(inputs, lambda _: 0.2, said.append)
    assert [found.layer for found in tied] == ["dead", "loud"]


def test_a_channel_is_poor_below_ten_decibels() -> None:
    step = 0.5
    amplitudes = [float(np.sqrt(step**2 / 12 * 10 ** (db / 10))) for db in (5.0, 9.5, 10.5, 20.0)]
    quantized = QuantizedInput(layer("x"), Grid(step, 0, False), statistics(*([a, -a] for a in amplitudes)))
    (found,) = rank_layers([quantized], lambda _: 0.0, lambda _: None)
    assert found.poor_channels == 0.5
    assert found.worst_channel_db == pytest.approx(5.0, abs=1e-3)
