"""Suppression and decoding against ``cv2.dnn.NMSBoxesBatched``: same result, how fast?

    python tests/benchmarks/bench_nms.py [--rounds 15] [--max-det N]

Both get what a decoder gives: float32 corners, float32 scores, int64 classes. OpenCV wants left, top, width and
height; that conversion is part of its time, to float64, which its bindings read three times faster than float32. The
last table decodes as well: raw logits of a 640 px YOLOv5 head to boxes, sparsely here, and densely in numpy (all
cells, then the threshold) before OpenCV's suppression.

Rounds are interleaved, so that a busy machine slows both; printed are medians and the median ratio. Exit 1 if any
result differs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.nms import nms
from edgedet_runtime.profiling.turns import elapsed_ms, take_turns
from edgedet_runtime.spec import DecodeSpec, LevelSpec

Floats = npt.NDArray[np.float32]
Candidates = tuple[Floats, Floats, npt.NDArray[np.int64]]
Result = npt.NDArray[np.int64]

IOU = 0.45
SIZES = (1, 5, 20, 50, 100, 200, 500, 1000, 5000, 25_000)
ANCHORS = ((10, 13, 16, 30, 33, 23), (30, 61, 62, 45, 59, 119), (116, 90, 156, 198, 373, 326))


def crowd(n: int, objects: int, classes: int, seed: int) -> Candidates:
    """Jittered copies of some objects, as a detector at a low threshold gives them."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(50, 590, (objects, 2)), rng.uniform(20, 200, (objects, 2))
    of = rng.integers(0, objects, n)
    wh = size[of] * rng.uniform(0.8, 1.25, (n, 2))
    xy = centre[of] + rng.normal(0, 0.1, (n, 2)) * size[of] - wh / 2
    return _as_candidates(xy, wh, rng.uniform(0.001, 1, n), rng.integers(0, classes, objects)[of])


def scattered(n: int, classes: int, seed: int) -> Candidates:
    """Boxes anywhere, of any class: hardly any suppression, the most comparisons."""
    rng = np.random.default_rng(seed)
    xy, wh = rng.uniform(0, 600, (n, 2)), rng.uniform(5, 100, (n, 2))
    return _as_candidates(xy, wh, rng.uniform(0.001, 1, n), rng.integers(0, classes, n))


def _as_candidates(
    xy: npt.NDArray[np.float64],
    wh: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    ids: npt.NDArray[np.int64],
) -> Candidates:
    boxes = np.concatenate((xy, xy + wh), axis=1).astype(np.float32)
    return boxes, scores.astype(np.float32), ids


def opencv(boxes: Floats, scores: Floats, ids: npt.NDArray[np.int64]) -> Result:
    """Suppress with OpenCV."""
    xywh = boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    suppress: Any = cv2.dnn.NMSBoxesBatched  # its stubs know lists only
    kept = suppress(xywh, scores, ids, 0.0, IOU)
    return np.asarray(kept, np.int64).reshape(-1)


def heads(n: int, seed: int) -> tuple[DecodeSpec, tuple[Floats, ...]]:
    """Return a spec and raw outputs of which about n cells pass a threshold of 0.25."""
    rng = np.random.default_rng(seed)
    levels, raw = [], []
    share = n / (3 * (80**2 + 40**2 + 20**2))
    for i, (stride, pairs) in enumerate(zip((8, 16, 32), ANCHORS, strict=True)):
        cells = 640 // stride
        anchors = tuple((float(pairs[k]), float(pairs[k + 1])) for k in (0, 2, 4))
        levels.append(LevelSpec(stride, f"b{i}", f"s{i}", f"o{i}", anchors, scale_xy=2.0))
        hot = rng.random((1, 3, cells, cells)) < share
        raw.append(rng.normal(0, 0.5, (1, 12, cells, cells)))
        raw.append(np.where(hot, 4.0, -6.0) + rng.normal(0, 0.3, hot.shape))
        raw.append(rng.normal(-5, 1, (1, 240, cells, cells)))
        raw[-1][:, ::80] += 8
    return DecodeSpec("anchors", tuple(levels)), tuple(a.astype(np.float32) for a in raw)


def dense_then_opencv(spec: DecodeSpec, raw: tuple[Floats, ...]) -> Result:
    """Decode every cell, then filter, then suppress with OpenCV, as demos do; returns the kept classes."""
    rows = []
    for i, level in enumerate(spec.levels):
        b, o, c = raw[3 * i : 3 * i + 3]
        h, w = o.shape[2:]
        b, c = b.reshape(3, 4, -1).transpose(0, 2, 1), c.reshape(3, 80, -1).transpose(0, 2, 1)
        y = 1 / (1 + np.exp(-np.concatenate((b, o.reshape(3, -1, 1), c), axis=2)))
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).reshape(1, -1, 2)
        xy = (y[:, :, :2] * 2 - 0.5 + grid) * level.stride
        half = (y[:, :, 2:4] * 2) ** 2 * np.array(level.anchors_px)[:, None] / 2
        rows.append(np.concatenate((xy - half, xy + half, y[:, :, 4:5] * y[:, :, 5:]), axis=2).reshape(-1, 84))
    every = np.concatenate(rows)
    best = every[:, 4:].max(axis=1)
    some = every[best > 0.25]
    ids = some[:, 4:].argmax(axis=1)
    kept = opencv(some[:, :4].astype(np.float32), best[best > 0.25].astype(np.float32), ids)
    return np.asarray(ids[kept])


def sparse(spec: DecodeSpec, raw: tuple[Floats, ...]) -> Result:
    """Decode the survivors of the threshold alone and suppress here; returns the kept classes."""
    found = decode_outputs(raw, spec, conf=0.25)
    return found.class_ids[nms(found.boxes_xyxy, found.scores, found.class_ids, iou=IOU)]


def compare(name: str, theirs: Callable[[], Result], ours: Callable[[], Result], rounds: int) -> bool:
    """Time both, alternating; print one line; return whether the results are the same."""
    same = np.array_equal(theirs(), ours())
    turns = take_turns(
        {theirs: lambda _round: elapsed_ms(theirs), ours: lambda _round: elapsed_ms(ours)}, runs=rounds, block=1
    )
    times = [[ms for block in turns[run] for ms in block] for run in (theirs, ours)]
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    middle = [statistics.median(t) for t in times]
    _line(f"{name:34} {middle[0]:11.3f} {middle[1]:11.3f} {ratio:8.2f}x  {'same' if same else 'DIFFERENT'}")
    return same


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the smaller sizes (default 15)")
    parser.add_argument("--max-det", type=int, help="also stop ours after so many boxes, as Detector does")
    options = parser.parse_args()
    _line(f"{'suppression alone':34} {'opencv ms':>11} {'ours ms':>11} {'ratio':>9}")
    good = True
    for classes in (80, 1):
        for n in SIZES:
            rounds = options.rounds * 20 if n <= 1000 else max(options.rounds // (n // 2500), 3)
            cases = {
                "clustered": crowd(n, max(n // 50, 5), classes, seed=n),
                "few objects": crowd(n, 10, classes, seed=n),
                "scattered": scattered(n, classes, seed=n),
            }
            for kind, (b, s, c) in cases.items():

                def ours(b: Floats = b, s: Floats = s, c: Result = c) -> Result:
                    return nms(b, s, c, iou=IOU, max_det=options.max_det)

                def theirs(b: Floats = b, s: Floats = s, c: Result = c) -> Result:
                    return opencv(b, s, c)[: options.max_det]

                good &= compare(f"{n:6} {kind}, {classes} classes", theirs, ours, rounds)
    _line("")
    _line(f"{'decoding and suppression':34} {'opencv ms':>11} {'ours ms':>11} {'ratio':>9}")
    for n in SIZES[:-1]:
        spec, raw = heads(n, seed=n)
        good &= compare(
            f"{n:6} of 25,200 cells",
            lambda spec=spec, raw=raw: dense_then_opencv(spec, raw),  # type: ignore[misc]
            lambda spec=spec, raw=raw: sparse(spec, raw),  # type: ignore[misc]
            options.rounds if n <= 1000 else 3,
        )
    return 0 if good else 1


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
