"""Where errors end: everything that can go wrong becomes one line on standard error and an exit code.

===== ==========================================================================================================
Code  Meaning
===== ==========================================================================================================
0     fine
1     a check failed
2     bad input or usage, or a place that cannot be read or written
70    a fault of edgedet itself; the line names a file with the details (`EX_SOFTWARE` of BSD's ``sysexits.h``)
128+n ended by signal n: 130 interrupted (Ctrl-C), 143 asked to end (SIGTERM); a training run is saved first
141   the reader of the output went away
===== ==========================================================================================================
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

from edgedet import output
from edgedet_runtime.errors import ArgumentError, EdgedetError

__all__ = ["FAULT", "ErrorBoundary", "command_line"]

BAD_INPUT = 2
FAULT = 70
INTERRUPTED = 130
READER_GONE = 141

_WORDS = "edgedet.words"


class ErrorBoundary(TyperGroup):
    """The root of the command line: runs a command and turns whatever it raises into a line and an exit code."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run the command line and exit; as a function (``standalone_mode=False``), raise what click raises."""
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*arguments, standalone_mode=False, **options)
        sys.exit(_exit_code(lambda: run(*arguments, standalone_mode=False, **options)))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, and keep its words: they say which command's flags an error may speak of."""
        ctx.meta[_WORDS] = list(args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the errors that edgedet raises on purpose end here, in the words of the command line."""
        try:
            return super().invoke(ctx)
        except EdgedetError as e:
            output.error(_in_flags(e, self._flags(ctx)))
            raise typer.Exit(e.exit_code) from None
        except KeyboardInterrupt:
            output.note("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # here, since click has an exit code of its own for it
            _drop_standard_output()
            raise typer.Exit(READER_GONE) from None

    def _flags(self, ctx: Any) -> dict[str, str]:
        """Return the flags of the command that ran, by the name of the parameter that takes them.

        A command's parameter has the name of the Python argument that it becomes (``max_drop``, ``classes``), and its
        flag is what typer was told (``--max-drop``, ``--names``): this is all that ties the two together.
        """
        command: Any = self
        for word in ctx.meta.get(_WORDS, ()):
            if not hasattr(command, "get_command"):
                break
            command = command.get_command(ctx, word)
        options = ((p.name, [o for o in p.opts if o.startswith("--")]) for p in getattr(command, "params", ()))
        return {name: flags[0] for name, flags in options if flags}


def command_line(context: typer.Context) -> str:
    """Return the command that runs, as it can be typed again."""
    return shlex.join(["edgedet", *context.meta.get(_WORDS, ())])


def _in_flags(error: EdgedetError, flags: Mapping[str, str]) -> str:
    """Return an error's message with the flags of a command in place of the arguments that it names."""
    text, begin = str(error), ""
    if isinstance(error, ArgumentError):
        begin = ", ".join(flags.get(name, name) for name in error.argument.split(", ")) + ": "
        text = error.problem
    return begin + re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), text)


def _exit_code(run: Callable[[], Any]) -> int:
    """Run the command line and return its exit code; nothing but an exit gets past here."""
    code = 0
    try:
        result = run()
        code = result if isinstance(result, int) and not isinstance(result, bool) else 0
        output.flush()
    except BrokenPipeError:
        _drop_standard_output()
        return READER_GONE
    except EdgedetError as e:  # of the last flush; if the command has failed, it has said so
        if not code:
            output.error(e)
        _drop_standard_output()
        return code or e.exit_code
    except OSError as e:
        output.error(f"{e.filename or 'a file'}: cannot be read or written: {e.strerror or e}")
        _drop_standard_output()
        return BAD_INPUT
    except MemoryError:
        output.error("memory: expected enough for this input, the system gave no more; take a smaller input or machine")
        return BAD_INPUT
    except (SystemExit, GeneratorExit):
        raise
    except (KeyboardInterrupt, typer.Abort):
        output.note("interrupted")
        return INTERRUPTED
    except BaseException as e:  # native code has panics that are no Exception
        if hasattr(e, "format_message") and hasattr(e, "exit_code"):
            output.error(_usage(e))
            return int(e.exit_code)
        output.error(_fault(e))
        return FAULT
    return code


def _drop_standard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it again when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # no file behind it, as in tests, or closed: nothing to drop
        return


def _usage(error: Any) -> str:
    """Return what was wrong with the words on the command line; `error` is one of click's usage errors."""
    parameter = getattr(error, "param", None)
    flag = None if parameter is None else _spelled(parameter)
    context = getattr(error, "ctx", None)
    kind = type(error).__name__
    if kind == "NoSuchOption":
        known = [flag for p in context.command.params for flag in p.opts] if context is not None else []
        text = f"{error.option_name}: no such option{_did_you_mean(error.option_name, [*known, '--help'])}"
    elif kind == "NoArgsIsHelpError":
        text = "a command is missing"
    elif kind == "MissingParameter" and flag is not None:
        text = f"{flag}: is missing"
    elif flag is not None:
        text = f"{flag}: {_in_own_words(error.message)}"
    else:
        text = _in_own_words(error.format_message())
    return text if context is None else f"{text}; see: {context.command_path} --help"


def _spelled(parameter: Any) -> str:
    """Return an option's flag, or what stands for an argument in the command's usage."""
    flags = [flag for flag in parameter.opts if flag.startswith("--")]
    return flags[0] if flags else str(parameter.metavar or parameter.name.upper())


def _in_own_words(message: object) -> str:
    """Return a parser's message without the words that speak of its own insides, and without a final stop."""
    text = str(message).removeprefix("Value error, ").rstrip(".")
    return re.sub(r"^Input should be ", "expected ", re.sub(r", unable to parse .*", "", text))


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _fault(error: BaseException) -> str:
    """Write down all that a report needs, and return the line that names the file."""
    from edgedet_runtime.version import __version__

    what = f"{type(error).__name__}: {error}"
    details = "\n".join(
        [
            f"edgedet {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"arguments: {sys.argv[1:]!r}",
            "".join(traceback.format_exception(error)),
        ]
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="edgedet-fault-", suffix=".txt", delete=False
        ) as file:
            file.write(details)
        where = f"the details are in {file.name}"
    except OSError:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"raised in {frame.filename} line {frame.lineno}, the details cannot be stored"
    return f"a fault of edgedet itself; please report it, {where} ({what[:200]})"
