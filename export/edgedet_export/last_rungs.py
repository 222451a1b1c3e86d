"""The ladder's end: every written file is checked, and the golden vectors are written and reproduced."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgedet_export.written import Judge, Judged, Written, check_file
from edgedet_runtime import Detections, Detector
from edgedet_runtime.bundle.golden import GOLDEN, read_golden, write_golden
from edgedet_runtime.bundle.rungs import Noise, Rung
from edgedet_runtime.doctor.golden_check import SAME_BOX_PX, SAME_SCORE
from edgedet_runtime.doctor.matching import difference
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import CheckFailedError, EngineError, MissingDependencyError

__all__ = ["LastRungs", "check_files"]

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LastRungs:
    """What checking the files gave.

    Attributes:
        rungs: One row per file and engine, all passed.
        engines: Path of a file → engines that may run it.
        notes: Engines that were asked for and cannot run a file, one sentence each.
    """

    rungs: tuple[Rung, ...]
    engines: dict[str, tuple[EngineName, ...]]
    notes: tuple[str, ...]


def check_files(
    folder: Path,
    files: Sequence[Written],
    images: Sequence[Image],
    golden_picture: Image,
    noise: Noise,
    *,
    optional: Sequence[EngineName] = ("opencv",),
    foreign: bool = False,
    progress: Callable[[str], object] = lambda text: None,
) -> LastRungs:
    """Hold every file against what was judged, write the golden vectors, and let every file reproduce them.

    Args:
        folder: The bundle in the making, with all model files.
        files: The files, each with an engine that shall run it; a file may be there with several engines.
        images: Pictures to compare on.
        golden_picture: The picture of the golden vectors; it is compared on too.
        noise: Rounding noise of the network.
        optional: Engines that a file may do without: where one cannot run it, or gives something else, the file is
            not offered to it, and a note says why.
        foreign: The network came as a file of somebody else: engines load what was written in a child process first.
        progress: Called with a few words on what happens.

    Raises:
        CheckFailedError: A file is not what was judged; names the rung.
        EngineError: An engine that is not optional cannot run its file.
    """
    pictures = [*images, golden_picture]
    rungs: list[Rung] = []
    engines: dict[str, tuple[EngineName, ...]] = {}
    notes: list[str] = []
    golden: dict[str, tuple[float, Detections]] = {}
    for judged in _distinct([file.judged for file in files]):
        judge = Judge(judged, pictures)
        for file in (f for f in files if f.judged is judged):
            progress(f"checking {file.path} on {file.engine}")
            try:
                check = check_file(folder, file, judge, noise, trial="always" if foreign else "never")
                rungs.append(check.rung.require())
            except (CheckFailedError, EngineError, MissingDependencyError) as e:
                if file.engine not in optional:
                    raise
                why = str(e).removesuffix("; nothing was written").replace(f"{folder}{os.sep}", "")
                notes.append(f"{file.path} is not offered to {file.engine}: {why}")
                continue
            engines[file.path] = (*engines.get(file.path, ()), file.engine)
            golden.setdefault(file.path, (check.conf, check.golden))
    write_golden(folder, golden_picture, golden)
    for path, first in ((path, names[0]) for path, names in engines.items()):
        _reproduce(folder, path, first)
    return LastRungs(tuple(rungs), engines, tuple(notes))


def _distinct(judged: Sequence[Judged]) -> list[Judged]:
    return [one for i, one in enumerate(judged) if all(one is not other for other in judged[:i])]


def _reproduce(folder: Path, path: str, engine: EngineName) -> None:
    """Run a file on the golden picture as it was stored, and compare with the golden detections as they were stored.

    Raises:
        CheckFailedError: They differ.
    """
    with Detector(folder / path, engine=engine, threads=1, trial="never") as probe:
        names = probe.spec.classes
    golden = read_golden(folder, names)
    conf, expected = golden.expected[path]
    with Detector(folder / path, engine=engine, threads=1, conf=conf, trial="never") as detector:
        seen = difference(expected, detector(golden.image_bgr))
    if not seen.within(box_px=SAME_BOX_PX, score=SAME_SCORE):
        raise CheckFailedError(
            f"parity {GOLDEN} → {path} on {engine}: expected the golden detections, got {seen}; nothing was written"
        )
