"""The errors of edgedet.

::

    EdgedetError                 anything a user can cause or mend; the CLI prints it as one line, exit 2
    ├── InputError               an argument, image, video, folder or data set that cannot be used
    │   └── ArgumentError        an argument of a function; the CLI says the flag that gave it instead
    ├── ModelFileError           a model file or bundle that cannot be read, or contradicts itself
    │   └── CheckpointError      a training checkpoint that cannot be read safely or is not understood
    ├── MissingDependencyError   an optional package is not installed; the message names the pip command
    ├── BusyError                a detector is called while it works for another thread
    ├── EngineError              an inference engine refused the model or failed to run it
    │   └── EngineDeathError     in a trial process, the engine died of the model, hung, or took too much memory
    ├── StoppedError             a long run was stopped by a signal, and can go on; exit 128 and the signal's number
    └── CheckFailedError         everything was readable, but a verification did not hold; exit 1

A message says what, what was expected, what was got, and what to do, on one line. Where it speaks of an argument, the
name stands in backticks (goes with `int8`); the command line says the flag there.
"""

from __future__ import annotations

from edgedet_runtime.printable import printable

__all__ = [
    "ArgumentError",
    "BusyError",
    "CheckFailedError",
    "CheckpointError",
    "EdgedetError",
    "EngineDeathError",
    "EngineError",
    "InputError",
    "MissingDependencyError",
    "ModelFileError",
    "StoppedError",
]


class EdgedetError(Exception):
    """Root of all errors that edgedet raises on purpose.

    Its message is one line, whatever names out of files stand in it: control characters become escapes.
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        """Keep the message."""
        super().__init__(printable(message))


class InputError(EdgedetError):
    """An argument, image, video, folder or data set cannot be used."""


class ArgumentError(InputError):
    """An argument of a function, or a field of its options, cannot be used.

    The message begins with the argument's name as Python has it, which is what a caller of the API can change. The
    command line, where the same thing is a flag, says the flag instead.

    Attributes:
        argument: Name of the argument; several, where they do not go together, separated by a comma.
        problem: What was expected and what was got.
    """

    def __init__(self, argument: str, problem: str) -> None:
        """Name the argument and say what is wrong."""
        super().__init__(f"{argument}: {problem}")
        self.argument = argument
        self.problem = problem

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str]]:
        """Return how to make it anew in another process."""
        return type(self), (self.argument, self.problem)


class ModelFileError(EdgedetError):
    """A model file or bundle cannot be read, or contradicts itself."""


class CheckpointError(ModelFileError):
    """A training checkpoint cannot be read safely, or its architecture is not understood."""


class MissingDependencyError(EdgedetError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Name the missing package, the extra of edgedet that brings it, and what it is needed for."""
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'edgedet[{extra}]'")
        self.package = package
        self.extra = extra


class BusyError(EdgedetError):
    """A detector is called while it works for another thread, whose buffers it would overwrite."""


class EngineError(EdgedetError):
    """An inference engine refused the model, or failed while running it."""


class EngineDeathError(EngineError):
    """In a trial process, an inference engine died of the model, hung, or took more memory than it may."""


class StoppedError(EdgedetError):
    """A long run was stopped by a signal; what it did is saved, and it can go on.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signal: int, message: str) -> None:
        """Say where the run stands and how to go on."""
        super().__init__(message)
        self.signal = signal
        self.exit_code = 128 + signal  # as a shell reports it


class CheckFailedError(EdgedetError):
    """A verification did not hold: parity, golden vectors, accuracy budget."""

    exit_code = 1
