"""Processes that work side by side: they end with their parent, and what goes wrong in one is said by the parent.

Workers are spawned. They take no notice of Ctrl-C, which the terminal sends to all: the parent hands on every request
to stop, as SIGTERM, and a worker notes it and finishes in its own time. A worker whose parent dies, however that
happens, ends at once.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from edgedet_models.training.stop import STOP_SIGNALS, StopSignals
from edgedet_models.with_parent import ending_with_parent
from edgedet_runtime.errors import ArgumentError, EdgedetError

__all__ = ["run_workers"]

T = TypeVar("T")

_GRACE_S = 5.0
"""How long the others may take to end when one has failed: one of them may know the reason better."""

_END_S = 60.0
"""How long a worker may take to end after its work."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What ended a worker."""

    error: BaseException | None
    text: str


@dataclass(slots=True)
class _Gathered(Generic[T]):
    """What came of the workers.

    Attributes:
        results: What they returned, by rank.
        failures: What they raised, by rank.
        gone: Ranks that ended without a word.
    """

    results: dict[int, T] = field(default_factory=dict)
    failures: dict[int, _Failure] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)


def run_workers(work: Callable[[int, StopSignals], T], count: int, stop: StopSignals) -> list[T]:
    """Run a function in several processes.

    Args:
        work: Called with the rank and the worker's own signals; picklable.
        count: How many processes.
        stop: The parent's signals; handed on to the workers.

    Returns:
        What each returned, by rank.

    Raises:
        EdgedetError: What one of them raised; or one was killed.
        RuntimeError: A fault in one of them, with its traceback as a note.
    """
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # it would end the blocking of signals below
    processes: list[BaseProcess] = []
    outcomes: dict[Connection, int] = {}
    try:
        with _signals_blocked():  # so that none reaches a worker that cannot note it yet
            for rank in range(count):
                process: BaseProcess
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_main, args=(work, rank, theirs), name=f"worker {rank + 1}")
                process.start()
                theirs.close()
                processes.append(process)
                outcomes[ours] = rank
            stop.forward = lambda: _ask(processes)
        if stop.signal is not None:
            _ask(processes)
        gathered: _Gathered[T] = _gather(outcomes)
        if not gathered.failures and len(gathered.results) == count:
            for process in processes:
                process.join(_END_S)
    finally:
        stop.forward = lambda: None
        for process in processes:
            process.kill()
            process.join()
        for connection in outcomes:
            connection.close()
    _check(gathered, {rank: process.exitcode for rank, process in enumerate(processes)})
    return [gathered.results[rank] for rank in range(count)]


def _ask(processes: list[BaseProcess]) -> None:
    """Ask workers to stop."""
    for process in processes:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGTERM)


def _gather(outcomes: Mapping[Connection, int]) -> _Gathered[T]:
    """Receive what each worker sends; once one has failed, wait for the others no longer than `_GRACE_S`."""
    gathered: _Gathered[T] = _Gathered()
    waiting = dict(outcomes)
    deadline: float | None = None
    while waiting:
        ready = wait(list(waiting), None if deadline is None else max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for connection in ready:
            assert isinstance(connection, Connection), "nothing else was waited for"
            rank = waiting.pop(connection)
            try:
                outcome = connection.recv()
            except EOFError:
                gathered.gone.append(rank)
            else:
                if not isinstance(outcome, _Failure):
                    gathered.results[rank] = outcome
                    continue
                gathered.failures[rank] = outcome
            deadline = deadline or time.monotonic() + _GRACE_S
    return gathered


def _check(gathered: _Gathered[T], codes: Mapping[int, int | None]) -> None:
    """Raise what tells most about why workers failed.

    First comes an error that one of them raised on purpose; then one that was killed, since the others only notice
    that it is gone; then whatever was raised.
    """
    count = len(codes)
    for failure in gathered.failures.values():
        if isinstance(failure.error, (EdgedetError, OSError, MemoryError)):
            raise failure.error
    for rank in gathered.gone:
        if codes[rank] == -signal.SIGKILL:
            raise ArgumentError(
                "processes",
                f"worker {rank + 1} of {count} was killed from outside (SIGKILL); is there too little memory? take"
                " fewer processes or a smaller `batch`; the run goes on from its last state",
            )
        raise RuntimeError(f"worker {rank + 1} of {count} ended with {codes[rank]} and said nothing")
    for rank, failure in gathered.failures.items():
        last = failure.text.strip().splitlines()[-1]
        raise RuntimeError(f"worker {rank + 1} of {count}: {last}") from _InWorker(failure.text)
    for rank, code in codes.items():
        if code:
            raise RuntimeError(f"worker {rank + 1} of {count} ended with {code} after its work")


class _InWorker(Exception):
    """Carries the traceback of another process."""

    def __str__(self) -> str:
        """Return it."""
        return "\n" + str(self.args[0])


def _main(work: Callable[[int, StopSignals], T], rank: int, outcome: Connection) -> None:
    """Run a worker."""
    stop = StopSignals(repeats_end=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        with ending_with_parent():
            try:
                result = work(rank, stop)
            except BaseException as e:  # the parent raises it
                outcome.send(_Failure(e if _can_be_sent(e) else None, "".join(traceback.format_exception(e))))
            else:
                outcome.send(result)
    outcome.close()


def _can_be_sent(error: BaseException) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever its own code for pickling may raise
        return False


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Keep requests to stop waiting while the block runs; processes that it starts begin so too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
