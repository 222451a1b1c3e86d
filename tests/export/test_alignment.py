"""Sets of queries in one order."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_export.alignment import align, matching_order
from edgedet_export.parity import compare, measure_noise
from edgedet_export.quantize.sensitivity import distortion
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

Array = npt.NDArray[np.float64]

SPEC = ModelSpec(
    "rtdetr",
    "tiny",
    InputSpec("images", 320, 640, layout="NCHW", dtype="float32"),
    ResizeSpec("stretch"),
    DecodeSpec("queries", (LevelSpec(32, "boxes", "scores"),), "cls", suppression="none", unit_xy=(640.0, 320.0)),
    ("a", "b", "c"),
)


def make(queries: int = 40) -> list[Array]:
    rng = np.random.default_rng(3)
    return [rng.uniform(0, 1, (1, queries, 4)), rng.normal(0, 2, (1, queries, 3))]


def shuffled(raw: list[Array], noise: float = 0.0) -> list[Array]:
    rng = np.random.default_rng(4)
    order = rng.permutation(raw[0].shape[1])
    return [part[:, order] + rng.normal(0, noise, part.shape) for part in raw]


def rung(after: list[Array]) -> tuple[bool, float, float]:
    result = compare(SPEC, against="a", before=[make()], stage="b", after=[after])
    return result.passed, result.score_error, result.box_error_px


def test_another_order_is_no_difference() -> None:
    assert rung(shuffled(make())) == (True, 0.0, 0.0)
    passed, score, box = rung(shuffled(make(), 1e-6))
    assert passed
    assert 1e-8 < score < 1e-5
    assert 1e-5 < box < 5e-3


@pytest.mark.parametrize(("part", "by"), [(0, 1e-4), (1, 5e-3), (0, np.nan), (1, np.nan)])
def test_a_changed_row_is_one(part: int, by: float) -> None:
    after = make()
    after[part][0, 11, 2] += by
    with np.errstate(all="ignore"):
        assert not rung(shuffled(after))[0]


def test_a_row_that_is_there_twice_does_not_stand_for_another() -> None:
    after = make()
    for part in after:
        part[0, 5] = part[0, 6]
    assert not rung(shuffled(after))[0]


def test_rows_of_the_same_box_are_told_apart_by_their_logits() -> None:
    before = make()
    before[0][:] = 0.5
    (boxes, logits) = align(SPEC, before, shuffled(before))
    np.testing.assert_array_equal(logits, before[1])
    np.testing.assert_array_equal(boxes, before[0])


def test_nearest_pairs_come_first() -> None:
    """The first row's nearest is 1.0, which is nearer to the second row."""
    assert matching_order(np.array([[0.4], [0.9]]), np.array([[1.0], [0.0]])).tolist() == [1, 0]
    assert matching_order(np.array([[0.7], [0.9]]), np.array([[1.0], [0.0]])).tolist() == [1, 0]


def test_nothing_to_align() -> None:
    assert matching_order(np.zeros((0, 7)), np.zeros((0, 7))).tolist() == []
    other = make(39)
    assert align(SPEC, make(), other) is other
    with pytest.raises(CheckFailedError, match="expected shape"):
        rung(other)
    cells = SPEC.replace(decode=DecodeSpec("ltrb", SPEC.decode.levels, "cls"))
    after = shuffled(make())
    assert align(cells, make(), after) is after


def test_noise_is_measured_between_rows_that_belong_together() -> None:
    noise = measure_noise(SPEC, [shuffled(make(), 1e-6)], [make()])
    assert 1e-5 < noise.box_px < 5e-3
    assert 1e-7 < noise.raw < 1e-5


def test_boxes_in_pixels_weigh_as_fractions_do() -> None:
    spec = SPEC.replace(decode=dataclasses.replace(SPEC.decode, unit_xy=(1.0, 1.0)))
    before = make()
    before[0] *= np.array((640, 320, 640, 320))
    before[1][:] = 0
    boxes = align(spec, before, shuffled(before))[0]
    np.testing.assert_array_equal(boxes, before[0])


def test_the_harm_of_quantizing_is_measured_between_rows_that_belong_together() -> None:
    def outputs(raw: list[Array]) -> dict[str, npt.NDArray[np.float32]]:
        return {name: part.astype(np.float32) for name, part in zip(("boxes", "scores"), raw, strict=True)}

    reference = outputs(make())
    assert distortion(reference, outputs(shuffled(make())), SPEC) == 0.0
    changed = make()
    changed[1][0, 7] += 1.0
    p = 1 / (1 + np.exp(-make()[1][0]))
    expected = np.abs(1 / (1 + np.exp(-changed[1][0])) - p).sum() / p.sum()
    np.testing.assert_allclose(distortion(reference, outputs(shuffled(changed)), SPEC), expected, rtol=1e-4)
