"""The state of a run: whole or refused, the one before it kept, and nothing of it ever run."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgedet_models.training.state import (
    Ema,
    TrainingProgress,
    load_state,
    save_state,
    settle_state,
)
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.whole_file import remove_leftovers
from tests.fault_injection import fail, in_child, stop_at
from tests.models.training.tiny import tiny


class Run:
    """A network after some steps."""

    def __init__(self, folder: Path, steps: int = 0, *, classes: tuple[str, ...] = ("a",)) -> None:
        torch.manual_seed(steps)
        self.folder = folder
        self.model = tiny(classes).train()
        self.ema = Ema(self.model, 0.9)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.progress = TrainingProgress()
        for _ in range(min(steps, 1)):
            sum(out.square().mean() for out in self.model(torch.rand(2, 3, 64, 64))).backward()
            self.optimizer.step()
        self.progress = TrainingProgress(steps, 2 * steps, steps / 10, steps / 100)
        self.ema.update(self.model, steps)

    def save(self) -> None:
        save_state(self.folder, self.model, self.ema, self.optimizer, self.progress)

    def load(self) -> TrainingProgress:
        return load_state(self.folder, self.model, self.ema, self.optimizer)

    def values(self) -> list[torch.Tensor]:
        moments = self.optimizer.state_dict()["state"]
        kept = [v for n in sorted(moments) for _, v in sorted(moments[n].items())]
        return [*self.model.state_dict().values(), *self.ema.model.state_dict().values(), *kept]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [Run(Path(), steps) for steps in (1, 2, 3)]


def at(folder: Path, run: Run) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    run.folder = folder
    return run


def loaded(folder: Path) -> int:
    """Return the step of the state that a run would go on from."""
    settle_state(folder)
    return Run(folder).load().step


def test_everything_comes_back(tmp_path: Path, runs: list[Run]) -> None:
    at(tmp_path, runs[2]).save()
    other = Run(tmp_path)
    assert other.load() == runs[2].progress
    assert len(other.values()) == len(runs[2].values()) > 300
    assert all(torch.equal(a, b) for a, b in zip(other.values(), runs[2].values(), strict=True))


def test_rates_and_decay_are_those_of_the_new_configuration(tmp_path: Path, runs: list[Run]) -> None:
    at(tmp_path, runs[0]).save()
    other = Run(tmp_path)
    other.optimizer = torch.optim.AdamW(other.model.parameters(), lr=0.5, weight_decay=0.25)
    other.load()
    assert other.optimizer.param_groups[0]["lr"] == 0.5
    assert other.optimizer.param_groups[0]["weight_decay"] == 0.25


def test_the_state_before_is_kept_and_taken_with_a_word(tmp_path: Path, runs: list[Run]) -> None:
    for run in runs:
        at(tmp_path, run).save()
    assert settle_state(tmp_path) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[:1000])
    said = settle_state(tmp_path)
    assert said is not None
    assert "state.pt: expected a checkpoint" in said
    assert "the run goes on from the state before it, and state.damaged.pt is the damaged one" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.damaged.pt", "state.pt"]
    assert Run(tmp_path).load().step == 2
    assert settle_state(tmp_path) is None


def test_a_state_truncated_anywhere_is_never_taken(tmp_path: Path, runs: list[Run]) -> None:
    for run in runs[:2]:
        at(tmp_path, run).save()
    whole, before = ((tmp_path / name).read_bytes() for name in ("state.pt", "state.previous.pt"))
    sizes = [*range(0, 64, 7), *range(64, len(whole), len(whole) // 25), *range(len(whole) - 90, len(whole), 7)]
    for size in sizes:
        (tmp_path / "state.pt").write_bytes(whole[:size])
        (tmp_path / "state.previous.pt").write_bytes(before)
        said = settle_state(tmp_path)
        assert said is not None, size
        assert "goes on from the state before it" in said
        assert (tmp_path / "state.pt").read_bytes() == before
    (tmp_path / "state.pt").write_bytes(whole)
    assert loaded(tmp_path) == 2


def test_a_flipped_bit_is_never_taken_for_a_value(tmp_path: Path, runs: list[Run]) -> None:
    for run in runs[:2]:
        at(tmp_path, run).save()
    whole, before = ((tmp_path / name).read_bytes() for name in ("state.pt", "state.previous.pt"))
    for place in range(17, len(whole), len(whole) // 25):
        (tmp_path / "state.pt").write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        (tmp_path / "state.previous.pt").write_bytes(before)
        if settle_state(tmp_path) is not None:
            assert (tmp_path / "state.pt").read_bytes() == before
            continue
        other = Run(tmp_path)  # the bit stood in what says nothing of values
        source = runs[other.load().step - 1]
        assert all(torch.equal(a, b) for a, b in zip(other.values(), source.values(), strict=True)), place


def test_two_damaged_states_are_one_line(tmp_path: Path) -> None:
    for name in ("state.pt", "state.previous.pt"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"state\.pt: .*; nor is there a state before it .*; choose another") as e:
        settle_state(tmp_path)
    assert "\n" not in str(e.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        {"model": {}, "ema": {}, "optimizer": {}, "progress": {"step": 1}},
        {"model": 3, "ema": {}, "optimizer": {}, "progress": {"step": 1, "images": 1, "seconds": 1, "share": 1}},
        {
            "model": {},
            "ema": {},
            "optimizer": {},
            "progress": dict.fromkeys(("step", "images", "seconds", "share"), "1"),
        },
        {
            "model": {},
            "ema": {},
            "optimizer": {},
            "progress": {"step": float("nan"), "images": 1, "seconds": 1, "share": 1},
        },
    ],
)
def test_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="expected the state of a training run"):
        settle_state(tmp_path)


def test_nothing_of_a_state_is_run(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch '{tmp_path}/ran'",)

    torch.save({"model": Runs()}, tmp_path / "state.pt", pickle_module=pickle)
    with pytest.raises(CheckpointError, match="refused, nothing was run"):
        settle_state(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_state_of_another_model_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    at(tmp_path, runs[0]).save()
    with pytest.raises(CheckpointError, match="is of another model; choose another `run`") as e:
        Run(tmp_path, classes=("a", "b")).load()
    assert "\n" not in str(e.value)


def test_moments_of_other_shapes_are_refused(tmp_path: Path, runs: list[Run]) -> None:
    run = at(tmp_path, runs[0])
    run.save()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    saved["optimizer"][0]["exp_avg"] = torch.zeros(3)
    torch.save(saved, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="averages of parameter 0"):
        Run(tmp_path).load()


def test_a_full_disk_says_so(tmp_path: Path, runs: list[Run]) -> None:
    """A limit on the size of files stands for the disk."""
    at(tmp_path, runs[0]).save()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*state\.pt"):
            at(tmp_path, runs[1]).save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]
    assert loaded(tmp_path) == 1


STEPS = ("replace", "fsync", "open", "close", "ftruncate")


@pytest.mark.parametrize("first", [True, False])
def test_a_failing_or_ending_writer_leaves_the_old_or_the_new(tmp_path: Path, runs: list[Run], first: bool) -> None:
    """The calls: open, fsync, two renames, and open, fsync and close of the folder."""
    for kind in ("fails", "ends"):
        broken = 0
        for n in range(20):
            folder = tmp_path / kind / str(n)
            folder.mkdir(parents=True)
            if not first:
                at(folder, runs[0]).save()
            new = at(folder, runs[1])
            if kind == "fails":
                with pytest.MonkeyPatch.context() as patched:
                    stop_at(patched, n, fail, STEPS)
                    try:
                        new.save()
                        finished = True
                    except OSError:
                        finished = False
            else:
                code = in_child(new.save, n, "kill before", STEPS)
                assert code in (0, 9)
                finished = code == 0
            remove_leftovers(folder)
            step = loaded(folder)
            assert step == 2 if finished else step in (0, 1, 2)
            assert step > 0 or first, "the old state is lost"
            assert {p.name for p in folder.iterdir()} <= {"state.pt", "state.previous.pt"}
            broken += not finished
            if finished:
                break
        assert broken >= (6 if first else 7)
