"""The interleaved measurement, with detectors that only count."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.bundle.plan import Plan, StoredPlan, read_plan, recommend, save_plan
from edgedet_runtime.errors import InputError, ModelFileError
from edgedet_runtime.profiling.latency import measure
from edgedet_runtime.profiling.turns import BLOCK, WARM_UP

IMAGE = np.zeros((4, 4, 3), np.uint8)


@dataclass
class Times:
    pre_ms: float = 0.1
    infer_ms: float = 0.2
    post_ms: float = 0.3


@dataclass
class Fake:
    name: str
    log: list[str]
    sleep_s: float = 0.0
    last_times: Times = field(default_factory=Times)

    def __call__(self, image_bgr: npt.NDArray[np.uint8], /) -> None:
        assert image_bgr is IMAGE
        self.log.append(self.name)
        time.sleep(self.sleep_s)


def test_plans_take_turns_and_the_first_of_each_block_is_dropped() -> None:
    log: list[str] = []
    rounds: list[tuple[int, int]] = []
    result = measure(
        {"a": Fake("a", log), "b": Fake("b", log)},
        IMAGE,
        runs=2 * BLOCK,
        on_round=lambda done, of: rounds.append((done, of)),
    )
    block_a, block_b = "a" * (BLOCK + 1), "b" * (BLOCK + 1)
    assert "".join(log) == "a" * WARM_UP + "b" * WARM_UP + block_a + block_b + block_b + block_a
    assert all(len(samples.end_to_end_ms) == 2 * BLOCK for samples in result.values())
    assert result["a"].pre_ms == (0.1,) * 2 * BLOCK
    assert result["b"].post_ms == (0.3,) * 2 * BLOCK
    assert rounds == [(1, 2), (2, 2)]


def test_end_to_end_is_wall_clock() -> None:
    result = measure({0: Fake("a", [], sleep_s=0.003)}, IMAGE, runs=3)
    assert len(result[0].end_to_end_ms) == 3
    assert min(result[0].end_to_end_ms) >= 3.0


@pytest.mark.parametrize("runs", [0, -1])
def test_refuses_no_runs(runs: int) -> None:
    with pytest.raises(InputError, match="runs: expected 1 or more"):
        measure({0: Fake("a", [])}, IMAGE, runs=runs)


FAST, FAST_2, SLOW = Plan("opencv", "int8", 1), Plan("opencv", "int8", 2), Plan("opencv", "fp32", 1)


@pytest.mark.parametrize(
    ("medians", "allowed", "chosen"),
    [
        ({FAST: 10.0, FAST_2: 6.0, SLOW: 20.0}, None, FAST_2),
        ({FAST: 10.0, FAST_2: 9.9, SLOW: 20.0}, None, FAST),
        ({FAST: 10.0, FAST_2: 6.0, SLOW: 20.0}, [SLOW], SLOW),
        ({FAST: 10.29, FAST_2: 10.0}, None, FAST),
        ({FAST: 10.31, FAST_2: 10.0}, None, FAST_2),
        ({SLOW: 10.2, FAST: 10.0, FAST_2: 9.9}, None, FAST),
    ],
    ids=[
        "fastest",
        "fewer threads where equally fast",
        "only where accuracy was accepted",
        "2.9 % slower is equally fast",
        "3.1 % slower is slower",
        "of as many threads the faster",
    ],
)
def test_recommend(medians: dict[Plan, float], allowed: list[Plan] | None, chosen: Plan) -> None:
    assert recommend(medians, allowed=allowed) == chosen


def test_recommend_refuses_nothing() -> None:
    with pytest.raises(InputError, match="at least one measured plan"):
        recommend({FAST: 1.0}, allowed=[])


def test_plan_survives_the_file(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    path = save_plan(FAST_2, tmp_path)
    assert read_plan(tmp_path) == StoredPlan(FAST_2)
    path.write_text('{"engine": "opencv"}')
    with pytest.raises(ModelFileError, match="expected engine, precision and threads"):
        read_plan(tmp_path)
    path.write_text('{"engine": "tensorrt", "precision": "fp32", "threads": 1}')
    with pytest.raises(
        ModelFileError, match=r"engine: expected one of .* got 'tensorrt'; measure again: edgedet profile"
    ):
        read_plan(tmp_path)
