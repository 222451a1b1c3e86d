"""Mutate a small ONNX model and a small IR, check each, open what passes in every engine in a child, and count.

::

    python tests/runtime/model_check/open_mutated.py --count 300 --seed 0

A child has the limits of a trial. What counts: whether our own check ever raises something else than `ModelFileError`,
how many mutations it refuses, and of those that pass, how many an engine runs, refuses in words, dies of, or hangs on.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import select
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.choices import EngineName
from edgedet_runtime.engines import load_engine
from edgedet_runtime.errors import EdgedetError, ModelFileError
from edgedet_runtime.model_check import check_model
from edgedet_runtime.spec import ModelSpec
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx

ENGINES: dict[str, tuple[EngineName, ...]] = {".onnx": ("onnxruntime", "openvino", "opencv"), ".xml": ("openvino",)}
CHILD_S = 20.0


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Return content with one to four changes: bits flipped, bytes at their limits, parts cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) or 1)
        length = min(draw.choice((1, 2, 4, 8, 16, 64)), len(changed) - at)
        kind = draw.randrange(6)
        if kind == 0 and changed:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at : at + length] = draw.choice((b"\xff", b"\x00", b"\x80", b"\x7f")) * length
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            to = draw.randrange(len(changed) or 1)
            changed[to : to + length] = changed[at : at + length]
        else:
            digits = [i for i, byte in enumerate(changed) if 48 <= byte <= 57]
            if digits:
                changed[draw.choice(digits)] = draw.choice(b"0123456789")
    return bytes(changed)


def checked(path: Path) -> str:
    """Return ``passed``, ``refused``, or what else our check raised."""
    try:
        check_model(path)
    except ModelFileError:
        return "refused"
    except Exception as e:  # what the count is about
        return f"fault: {type(e).__name__}: {e}"
    return "passed"


def opened(path: Path, engine: EngineName, spec: ModelSpec) -> str:
    """Open and run a file in a forked child with limits; return what came of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (4 << 30), taken + (4 << 30)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            loaded = load_engine(engine, path, spec, threads=1)
            size = spec.input.size_hw
            shape = (1, 3, *size) if spec.input.layout == "NCHW" else (1, *size, 3)
            loaded.infer(np.zeros(shape, spec.input.dtype))
            outcome = "ran"
        except EdgedetError:
            outcome = "refused by the engine"
        except MemoryError:
            outcome = "memory"
        except BaseException as e:
            outcome = f"fault: {type(e).__name__}: {e}"[:200]
        os.write(writing, outcome.encode())
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], CHILD_S)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    if not ready:
        return "hung"
    return outcome or f"died of signal {os.WTERMSIG(status)}"


def write_seeds(folder: Path) -> list[Path]:
    """Write the tiny detector as ONNX and as IR."""
    from edgedet_runtime.engines.openvino_package import openvino_package

    onnx = tiny_onnx(folder / "seed.onnx")
    ov = openvino_package("mutations")
    model = ov.Core().read_model(str(onnx))
    model.set_rt_info(TINY_SPEC.to_json(), "edgedet")
    ov.save_model(model, str(folder / "seed.xml"), compress_to_fp16=False)
    return [onnx, folder / "seed.xml"]


def count_mutations(
    count: int, seed: int, *, models: Sequence[Path] = (), keep: Path | None = None
) -> dict[str, Counter[str]]:
    """Return outcomes per format and engine.

    Args:
        count: Mutations of each format.
        seed: Of what is drawn.
        models: Files to mutate, in place of the tiny detector.
        keep: Folder for files that an engine died of or hung on, or that our check failed on.
    """
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pid = os.fork()  # OpenVINO starts threads when it converts; this process must have none when it forks
        if pid == 0:
            write_seeds(folder)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit("the seeds could not be written")
        for original in models or (folder / "seed.onnx", folder / "seed.xml"):
            draw = random.Random(seed)
            content = original.read_bytes()
            spec = read_spec(original)
            suffix = original.suffix
            target = folder / f"mutated{suffix}"
            if suffix == ".xml":
                target.with_suffix(".bin").write_bytes(original.with_suffix(".bin").read_bytes())
            for number in range(count):
                target.write_bytes(mutate(content, draw))
                verdict = checked(target)
                counts.setdefault(f"{suffix} check", Counter())[verdict] += 1
                bad = verdict.startswith("fault")
                for engine in ENGINES[suffix] if verdict == "passed" else ():
                    outcome = opened(target, engine, spec)
                    counts.setdefault(f"{suffix} {engine}", Counter())[outcome] += 1
                    bad = bad or outcome.startswith(("fault", "died", "hung"))
                if bad and keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}{suffix}").write_bytes(target.read_bytes())
    return counts


def main() -> None:
    """Read the arguments, count, and print a line for each format and engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", help="files to mutate; default: a tiny detector")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None)
    options = parser.parse_args()
    for what, outcomes in count_mutations(
        options.count, options.seed, models=options.models, keep=options.keep
    ).items():
        sys.stdout.write(f"{what}: {', '.join(f'{n} {outcome}' for outcome, n in outcomes.most_common())}\n")


if __name__ == "__main__":
    main()
