"""The ladder finds real differences, names them, and does not fail on float32's own rounding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgedet_export.parity import compare, measure_noise, within_reach
from edgedet_export.pictures import probe_picture
from edgedet_export.stages import torch_stage
from edgedet_runtime.bundle.rungs import Noise
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import Clip
from tests.export.tiny import TinyDetector, tiny_spec


def raw(model: TinyDetector) -> list[list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]]:
    return [list(outputs) for outputs in torch_stage("torch", model)([probe_picture((64, 96))])]


def test_equal_stages_pass_with_zero_error() -> None:
    model = TinyDetector(tiny_spec("anchors"))
    rung = compare(model.spec, against="a", before=raw(model), stage="b", after=raw(model))
    assert rung.passed
    assert rung.score_error == rung.box_error_px == 0
    assert [o.name for o in rung.outputs] == list(model.spec.decode.output_names)


@pytest.mark.parametrize(("output", "delta"), [(0, 1e-2), (1, 1e-2), (2, -0.5)])
def test_a_changed_output_is_named(output: int, delta: float) -> None:
    model = TinyDetector(tiny_spec("anchors"))
    before, after = raw(model), raw(model)
    after[0][output] += delta
    rung = compare(model.spec, against="onnx", before=before, stage="openvino", after=after)
    name = model.spec.decode.output_names[output]
    with pytest.raises(CheckFailedError, match=rf"parity onnx → openvino: .*worst output {name} "):
        rung.require()


def test_nan_never_passes() -> None:
    model = TinyDetector(tiny_spec())
    after = raw(model)
    after[0][1][0, 0, 0, 0] = np.nan
    with pytest.raises(CheckFailedError, match="scores_0"):
        compare(model.spec, against="a", before=raw(model), stage="b", after=after).require()


def test_another_shape_is_refused() -> None:
    model = TinyDetector(tiny_spec())
    after = raw(model)
    after[0][0] = after[0][0][:, :, 1:]
    with pytest.raises(CheckFailedError, match="boxes_0: expected shape"):
        compare(model.spec, against="a", before=raw(model), stage="b", after=after)


def test_tolerances_without_noise() -> None:
    model = TinyDetector(tiny_spec())
    rung = compare(model.spec, against="a", before=raw(model), stage="b", after=raw(model), noise=Noise(2e-5, 4e-3))
    assert (rung.score_tolerance, rung.box_tolerance_px) == (1e-4, 0.02)


@pytest.mark.parametrize("times", [4.5, 5.5])
@pytest.mark.parametrize(("output", "delta"), [(1, 2e-3), (0, 1e-2)], ids=["scores", "boxes"])
def test_a_difference_may_be_five_times_the_noise(output: int, delta: float, times: float) -> None:
    model = TinyDetector(tiny_spec())
    before, after = raw(model), raw(model)
    after[0][output] += delta
    strict = compare(model.spec, against="a", before=before, stage="b", after=after)
    assert not strict.passed
    noise = Noise(score=strict.score_error / times, box_px=strict.box_error_px / times)
    widened = compare(model.spec, against="a", before=before, stage="b", after=after, noise=noise)
    assert widened.score_tolerance == pytest.approx(max(1e-4, strict.score_error * 5 / times))
    assert widened.box_tolerance_px == pytest.approx(max(0.02, strict.box_error_px * 5 / times))
    assert widened.passed is (times < 5)


@pytest.mark.parametrize(("clip", "left", "right"), [("before-nms", 0.0, 96.0), ("after-nms", -96.0, 192.0)])
def test_boxes_are_compared_as_far_as_they_show(clip: Clip, left: float, right: float) -> None:
    spec = tiny_spec()
    spec = spec.replace(decode=dataclasses.replace(spec.decode, clip=clip))
    boxes = within_reach(spec, np.array([[-1e9, 3.0, np.inf, 60.0]]))
    assert boxes.tolist() == [[left, 3.0, right, 60.0]]


def test_noise_of_a_sound_network_is_small_and_real() -> None:
    model = TinyDetector(tiny_spec())
    single = raw(model)
    double = torch_stage("double", model.double(), dtype=torch.float64)([probe_picture((64, 96))])
    noise = measure_noise(model.spec, single, double)
    assert 0 < noise.score < 1e-5
    assert 0 < noise.box_px < 1e-3
