"""The built-in model's figures, from one command.

::

    edgedet export --int8 --out build/edgecode-n
    python tests/benchmarks/bench_codes.py build/edgecode-n [--json FILE] [--failures FOLDER]

For each engine and precision that the bundle holds: recall per kind and false boxes on real photos (``codes-photos``
of the shared folder, at the threshold that the model ships with, which was chosen on rendered scenes), and recall
against the size of the code on rendered scenes. ``--failures`` draws what was missed or invented, to look at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / p) for p in ("export", "models", "runtime"))]

from edgedet_models.scenes import KINDS, make_symbol  # noqa: E402
from edgedet_models.scenes.camera import photograph  # noqa: E402
from edgedet_models.scenes.card import make_card  # noqa: E402
from edgedet_models.scenes.placement import place_card, random_pose  # noqa: E402
from edgedet_models.scenes.surfaces import draw_surface  # noqa: E402
from edgedet_runtime import Detector  # noqa: E402
from edgedet_runtime.choices import EngineName, Precision  # noqa: E402
from edgedet_runtime.detections import Detections  # noqa: E402
from edgedet_runtime.overlap import box_iou  # noqa: E402
from tests.shared_folder import shared_folder  # noqa: E402

SIZES_PX = (12, 16, 24, 32, 64)
PER_SIZE = 5
WAYS: list[tuple[EngineName, Precision]] = [
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
]

Detect = Callable[[NDArray[np.uint8]], Detections]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PhotoScore:
    """Recall per kind and false boxes per negative photo."""

    recall: dict[str, float]
    found: dict[str, tuple[int, int]]
    false_per_photo: float
    failures: tuple[str, ...]


def overlap_1d(a: tuple[float, float], b: tuple[float, float]) -> float:
    """IoU of two ranges."""
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inner / max(1e-9, (a[1] - a[0]) + (b[1] - b[0]) - inner)


def iou(a: Box, b: Box) -> float:
    """IoU of two boxes."""
    return float(box_iou(np.array([a]), np.array([b]))[0, 0])


def is_found(kind: str, box: Box, predicted: list[tuple[str, Box]]) -> bool:
    """The scoring rule of the photos' README: IoU >= 0.5; for linear codes the centre and the range along the code."""
    mine = [b for k, b in predicted if k == kind]
    if kind != "linear":
        return any(iou(box, b) >= 0.5 for b in mine)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    upright = box[3] - box[1] > box[2] - box[0]
    along = (1, 3) if upright else (0, 2)
    return any(
        b[0] <= x <= b[2]
        and b[1] <= y <= b[3]
        and overlap_1d((box[along[0]], box[along[1]]), (b[along[0]], b[along[1]])) >= 0.5
        for b in mine
    )


def score_photos(detect: Detect, folder: Path, failures: Path | None = None) -> PhotoScore:
    """Score the photos of `folder` (``labels.json``, ``images/``)."""
    labels: dict[str, dict[str, Any]] = json.loads((folder / "labels.json").read_text())
    counts = {kind: [0, 0] for kind in KINDS}
    negatives = false = 0
    failed = []
    for name, label in labels.items():
        image = np.asarray(cv2.imread(str(folder / "images" / name), cv2.IMREAD_COLOR), dtype=np.uint8)
        boxes = [(b.name, b.xyxy) for b in detect(image)]
        wrong = False
        for item in label["objects"]:
            hit = is_found(item["kind"], tuple(item["xyxy"]), boxes)
            counts[item["kind"]][0] += hit
            counts[item["kind"]][1] += 1
            wrong |= not hit
        if name.startswith("falsepositives_"):
            negatives += 1
            false += len(boxes)
            wrong |= bool(boxes)
        if wrong:
            failed.append(name)
            if failures is not None:
                _draw_failure(image, label["objects"], boxes, failures / name)
    found = {k: (a, b) for k, (a, b) in counts.items() if b}
    return PhotoScore({k: a / b for k, (a, b) in found.items()}, found, false / max(1, negatives), tuple(failed))


def _draw_failure(
    image: NDArray[np.uint8], objects: list[dict[str, Any]], boxes: list[tuple[str, Box]], path: Path
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = 400 / max(image.shape[:2])
    picture = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    items = [(o["kind"], o["xyxy"], (0, 200, 0)) for o in objects] + [(k, b, (0, 0, 255)) for k, b in boxes]
    for kind, box, color in items:
        x0, y0, x1, y1 = (round(v * scale) for v in box)
        cv2.rectangle(picture, (x0, y0), (x1, y1), color, 2)
        cv2.putText(picture, kind, (x0 + 2, y0 + 14), 0, 0.5, color, 1, cv2.LINE_AA)
    cv2.imwrite(str(path.with_suffix(".png")), picture)


def scenes_of_size(px: int, size: int, per_kind: int) -> Iterator[tuple[NDArray[np.uint8], str, Box]]:
    """Render pictures of the network's own size with one code whose long side is about `px` pixels."""
    for i, kind in enumerate(KINDS):
        done, seed = 0, 0
        while done < per_kind:
            rng = np.random.default_rng([50_000_000, px, i, seed])
            seed += 1
            image = draw_surface(rng, size, size, str(rng.choice(["plain", "grain", "clutter", "page"])))
            center = (float(rng.uniform(0.1, 0.9) * size), float(rng.uniform(0.1, 0.9) * size))
            outline = place_card(
                image, make_card(make_symbol(kind, rng), rng, target_px=px), random_pose(rng, center, px), rng
            )
            low, high = outline.min(axis=0), outline.max(axis=0)
            if low.min() < 0 or high.max() > size or not 0.87 < (high - low).max() / px < 1.15:
                continue
            done += 1
            yield photograph(image, rng, severity=0.5), kind, (*map(float, low), *map(float, high))  # type: ignore[misc]


def score_sizes(detect: Detect, size: int, per_kind: int) -> dict[int, float]:
    """Return recall (same class, IoU >= 0.5) by code size in input pixels."""
    result = {}
    for px in SIZES_PX:
        hits = [
            any(b.name == kind and iou(b.xyxy, box) >= 0.5 for b in detect(image))
            for image, kind, box in scenes_of_size(px, size, per_kind)
        ]
        result[px] = sum(hits) / len(hits)
    return result


def main() -> None:
    """Score what the bundle holds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photos", type=Path, default=shared_folder() / "data" / "codes-photos")
    parser.add_argument("--per-kind", type=int, default=PER_SIZE, help="rendered pictures per size and kind")
    parser.add_argument("--engine", choices=sorted({e for e, _ in WAYS}), help="only this one")
    parser.add_argument("--conf", type=float, help="another threshold than the model's own")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--failures", type=Path, help="draw missed (green) and invented (red) boxes here")
    options = parser.parse_args()
    console = Console(width=140)
    photos = Table("engine", "precision", *KINDS[:5], "false boxes / negative photo", title="Real photos: recall")
    sizes = Table("engine", "precision", *(f"{px} px" for px in SIZES_PX), title="Rendered scenes: recall by size")
    rows: list[dict[str, Any]] = []
    for engine, precision in WAYS:
        if options.engine not in (None, engine):
            continue
        with Detector(options.bundle, engine=engine, precision=precision, conf=options.conf) as detect:
            score = score_photos(detect, options.photos, options.failures if not rows else None)
            by_size = score_sizes(detect, detect.spec.input.height, options.per_kind)
            conf = detect.thresholds.conf
        cells = [f"{score.recall[k]:.3f} ({score.found[k][0]}/{score.found[k][1]})" for k in KINDS[:5]]
        photos.add_row(engine, precision, *cells, f"{score.false_per_photo:.2f}")
        sizes.add_row(engine, precision, *(f"{by_size[px]:.2f}" for px in SIZES_PX))
        rows.append(
            {
                "engine": engine,
                "precision": precision,
                "conf": conf,
                "recall": score.recall,
                "false_per_photo": score.false_per_photo,
                "recall_by_px": by_size,
                "failures": score.failures,
            }
        )
    console.print(photos)
    console.print(sizes)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
