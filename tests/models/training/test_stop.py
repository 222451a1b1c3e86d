"""A run that is stopped, or killed, loses nothing: it goes on to the result that it would have had."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.training import TrainConfig, keeper, loop, train
from edgedet_models.training.batches import Batches
from edgedet_models.training.state import save_state
from edgedet_runtime.errors import InputError, StoppedError
from edgedet_runtime.one_writer import locked_folder
from tests.models.process_family import alive, dead_soon
from tests.models.training import tiny as script
from tests.models.training.tiny import VARIANTS, at_call, tiny, tiny_config, two, write_yolo

FILES = ["log.jsonl", "state.pt", "weights.safetensors"]
STEPS_IN_ALL = 24

Weights = dict[str, bytes]


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(VARIANTS, "tiny", tiny)
        patched.setattr(TrainConfig, "batch_at", two)
        yield


@pytest.fixture(autouse=True, scope="module")
def _not_ignored() -> Iterator[None]:
    """Undo what a shell does to tests that run in its background: SIGINT is ignored there, and by child processes."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, _small: None) -> Path:
    """Return a run that nobody stopped."""
    root = tmp_path_factory.mktemp("whole")
    config = tiny_config(root / "run", write_yolo(root / "data"), images=2 * STEPS_IN_ALL)
    return train(config, show=False).parent


@pytest.fixture
def whole(whole_run: Path) -> Weights:
    return weights(whole_run / "weights.safetensors")


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return tiny_config(tmp_path / "run", write_yolo(tmp_path / "data"), images=2 * STEPS_IN_ALL)


def weights(path: Path) -> Weights:
    return {name: tensor.numpy().tobytes() for name, tensor in read_checkpoint(path).tensors().items()}


def rows(run: Path) -> list[str]:
    return [line.partition('"images"')[0] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("number", "step"),
    [*((signal.SIGTERM, step) for step in (1, 3, 4, 23)), (signal.SIGINT, 6), (signal.SIGHUP, 6)],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    config: TrainConfig,
    whole_run: Path,
    whole: Weights,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    step: int,
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_step", at_call(step, lambda: signal.raise_signal(number), loop._step))
        with pytest.raises(StoppedError, match=f"stopped by {number.name} at .* saved in state.pt") as stopped:
            train(config, show=False)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert threading.active_count() == 1
    assert weights(train(config, show=False)) == whole
    assert rows(config.run) == rows(whole_run)
    assert sorted(p.name for p in config.run.iterdir()) == sorted([*FILES, "state.previous.pt"])


def test_a_run_that_is_stopped_before_its_first_step_says_so(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "Batches", at_call(1, lambda: signal.raise_signal(signal.SIGTERM), Batches))
    with pytest.raises(StoppedError, match="before its first step"):
        train(config, show=False)
    assert list(config.run.iterdir()) == []


def test_a_second_signal_ends_at_once(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "_step", at_call(3, twice, loop._step))
    with pytest.raises(StoppedError, match="stopped by SIGTERM at once") as stopped:
        train(config, show=False)
    assert stopped.value.exit_code == 143
    assert threading.active_count() == 1
    assert list(config.run.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored(
    config: TrainConfig, whole: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(loop, "_step", at_call(3, lambda: signal.raise_signal(signal.SIGHUP), loop._step))
        assert weights(train(config, show=False)) == whole
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_ends_every_thread_and_keeps_what_was_learned(
    config: TrainConfig, whole: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = config.data.parent / "images/3.png"
    data = picture.read_bytes()

    def damage() -> None:
        picture.write_bytes(data[:-9])

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_step", at_call(6, damage, loop._step))
        with pytest.raises(InputError, match=r"3\.png: expected an image, it is a damaged PNG"):
            train(config, show=False)
    assert threading.active_count() == 1
    picture.write_bytes(data)
    assert (config.run / "state.pt").exists()
    assert weights(train(config, show=False)) == whole


def test_two_runs_in_one_folder_are_refused(config: TrainConfig) -> None:
    config.run.mkdir()
    (config.run / ".state.pt.edgedet-7").write_bytes(b"another one's")
    with locked_folder(config.run), pytest.raises(InputError, match="another process that is writing it now"):
        train(config, show=False)
    assert [p.name for p in config.run.iterdir()] == [".state.pt.edgedet-7"]


def test_what_killed_runs_left_is_removed(config: TrainConfig) -> None:
    config.run.mkdir()
    for name in (".state.pt.edgedet-7", ".meeting.edgedet-7", ".weights.safetensors.edgedet-7"):
        (config.run / name).write_bytes(b"x")
    (config.run / "notes.txt").write_text("mine")
    train(config, show=False)
    assert sorted(p.name for p in config.run.iterdir()) == sorted([*FILES, "notes.txt"])


def test_an_interrupted_step_leaves_the_log_of_the_saved_state(
    config: TrainConfig, whole_run: Path, whole: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that dies after a row of the log, and before the next state, writes that row once in the end."""
    often = replace(config, save_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(keeper, "save_state", at_call(5, _die, save_state))
        with pytest.raises(ZeroDivisionError):
            train(often, show=False)
    assert len(rows(config.run)) == 1, "row of step 20, state of step 16"
    assert weights(train(config, show=False)) == whole
    assert rows(config.run) == rows(whole_run)


def _die() -> None:
    raise ZeroDivisionError


# What follows runs in processes of its own.


def command(run: Path, data: Path, *options: object) -> list[str]:
    words = [run, data, "--variant", "tiny", "--images", 112, "--batch", 1, "--sizes", "64:1", "--mosaic", 0, *options]
    return ["train", *map(str, words)]


def start(moment: str, number: int, words: list[str]) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
        "EDGEDET_TEST_SIGNAL": f"{moment}={int(number)}",
    }
    return subprocess.Popen(
        [sys.executable, str(script.__file__), *words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def finish(moment: str, number: int, words: list[str]) -> tuple[int, str, str]:
    process = start(moment, number, words)
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "a run"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_ends_well(run: Path, tmp_path: Path, processes: int) -> None:
    words = command(run, write_yolo(tmp_path / "data"), "--processes", processes)
    code, out, err = finish("never", 0, words)
    assert (code, out) == (0, f"weights: {run}/weights.safetensors\n"), err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("moment", "number"),
    [("step:1", signal.SIGTERM), ("step:6", signal.SIGTERM), ("save:2", signal.SIGTERM), ("step:6", signal.SIGINT)],
)
def test_a_signal_saves_the_run_and_says_how_to_go_on(
    run: Path, tmp_path: Path, moment: str, number: signal.Signals, processes: int
) -> None:
    words = command(run, write_yolo(tmp_path / "data"), "--processes", processes, "--save-every", 0)
    code, out, err = finish(moment, number, words)
    assert code == 128 + number, err
    assert out == ""
    assert err.count("\n") == 1
    said, _, again = err.strip().partition("; to go on: ")
    assert said.startswith(f"{run}: stopped by {number.name} at ")
    assert shlex.split(again) == ["edgedet", *words]
    code, out, err = finish("never", 0, shlex.split(again)[1:])
    assert code == 0, err
    assert sorted(p.name for p in run.iterdir()) == sorted([*FILES, "state.previous.pt"])


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("moment", ["step:1", "step:10", "save:1", "save:3"])
def test_a_killed_run_goes_on_and_its_workers_end_with_it(
    run: Path, tmp_path: Path, moment: str, processes: int
) -> None:
    words = command(run, write_yolo(tmp_path / "data"), "--processes", processes, "--save-every", 0)
    process = start(moment, signal.SIGKILL, words)
    process.communicate(timeout=500)
    assert process.returncode == -signal.SIGKILL
    assert dead_soon(process.pid)
    code, _, err = finish("never", 0, words)
    assert code == 0, err
    assert set(FILES) - {p.name for p in run.iterdir()} == set()
    assert [p.name for p in run.iterdir() if ".edgedet-" in p.name] == []


@pytest.mark.slow
def test_a_killed_worker_and_a_damaged_picture_are_one_sentence(run: Path, tmp_path: Path) -> None:
    data = write_yolo(tmp_path / "data")
    words = command(run, data, "--processes", 2, "--images", 10**8)
    process = start("never", 0, words)
    deadline = time.monotonic() + 300
    while not (run / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [pid for pid in alive(process.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 2, err
    assert err.startswith("error: --processes: worker ")
    assert "was killed from outside (SIGKILL)" in err
    assert err.count("\n") == 1
    assert dead_soon(process.pid)
    picture = data.parent / "images/0.png"
    picture.write_bytes(picture.read_bytes()[:-9])
    code, _, err = finish("never", 0, words)
    assert (code, err) == (2, f"error: {picture}: expected an image, it is a damaged PNG: its end is missing\n")
