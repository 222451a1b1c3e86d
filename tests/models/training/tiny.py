"""A network that trains in milliseconds, four pictures for it, and the command line of a child process.

As a script: ``python tiny.py train …`` runs edgedet with the network as variant ``tiny``; the environment variable
``EDGEDET_TEST_SIGNAL`` is ``MOMENT=NUMBER``: at the moment (``step:5``: in the fifth step; ``save:2``: in the second
writing of the state; ``never``) the signal reaches the process that the user started.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgedet_models.families import edgecode
from edgedet_models.families.edgecode import EdgeCode, EdgeCodeSize
from edgedet_models.training import TrainConfig, keeper, loop
from edgedet_models.training.state import save_state

SIZE = EdgeCodeSize((8, 8, 8, 8, 8), (0, 1, 1, 1), (8, 8, 8))
VARIANTS: Any = edgecode.VARIANTS


def tiny(classes: tuple[str, ...]) -> EdgeCode:
    """Build the network."""
    return EdgeCode("tiny", SIZE, classes)


def two(config: TrainConfig, size: int) -> int:
    """Return the pictures of a step, where a whole batch would take too long."""
    return 2


def write_yolo(folder: Path) -> Path:
    """Write four pictures of a square with their labels; return the data.yaml."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i in range(4):
        image = np.full((120, 200, 3), 200, np.uint8)
        cv2.rectangle(image, (20 + 30 * i, 30), (67 + 30 * i, 77), (0, 0, 0), -1)
        cv2.imwrite(str(folder / f"images/{i}.png"), image)
        (folder / f"labels/{i}.txt").write_text(f"0 {(44 + 30 * i) / 200} {54 / 120} {48 / 200} {48 / 120}\n")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: {0: square}\n")
    return folder / "data.yaml"


def tiny_config(run: Path, data: Path, **changes: Any) -> TrainConfig:
    """Return a run of some steps of four pictures of 64 pixels."""
    options: dict[str, Any] = {
        **dict.fromkeys(("batch", "processes"), 1),
        "variant": "tiny",
        "images": 60,
        "sizes": (64,),
        "size_weights": (1.0,),
        "bfloat16": False,
    }
    return TrainConfig(run, data, **{**options, **changes})


def at_call(n: int, act: Callable[[], object], call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function: at its n-th call, counted from 1, `act` comes first."""
    count = iter(range(1, 10**9))

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(count) == n:
            act()
        return call(*arguments, **options)

    return wrapped


def _arm(moment: str, number: str) -> None:
    """Let a signal reach the process that the user started, at a moment of the process of rank 0."""
    kind, _, n = moment.partition(":")
    if kind == "never" or multiprocessing.current_process().name == "worker 2":
        return

    def send() -> None:
        alone = multiprocessing.parent_process() is None
        os.kill(os.getpid() if alone else os.getppid(), int(number))

    if kind == "step":
        loop._step = at_call(int(n), send, loop._step)
    else:
        keeper.save_state = at_call(int(n), send, save_state)  # type: ignore[attr-defined]


if __name__ in ("__main__", "__mp_main__"):
    VARIANTS["tiny"] = tiny
    TrainConfig.batch_at = two  # type: ignore[assignment,method-assign]
    _arm(*os.environ["EDGEDET_TEST_SIGNAL"].split("="))

if __name__ == "__main__":
    from edgedet.cli import main

    main()
