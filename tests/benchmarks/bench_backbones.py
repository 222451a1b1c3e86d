"""Which backbone in YOLOv5n finds most for its time? All are trained alike, quantised, scored and timed.

::

    python tests/benchmarks/bench_backbones.py WORK [--variants NAME,NAME] [--jobs 2] [--until train|export]

WORK keeps all that is made, so that the same command goes on where it was stopped: rendered scenes to train with,
others to score on, to calibrate with and to hold INT8 to its budget (four ranges of seeds that do not meet),
``runs/`` of `edgedet train`, ``bundles/`` of `edgedet export --int8`, and what `edgedet compare` says of those whose
training is done: ``compare.md``, ``compare.html``, ``compare.json``, and plots as SVG. Latencies want a quiet machine.

The schedule is the built-in model's recipe cut so short that a dozen networks are done within a few hours on two cores,
from scratch: it tells what a backbone learns from little, and nothing of what it reaches in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedet.comparison.table import Table

VARIANTS = (
    "yolov5n",
    "yolov5n-mobilenetv3-small",
    "yolov5n-mobilenetv1",
    "yolov5n-mobilenetv2",
    "yolov5n-shufflenetv2",
    "yolov5n-ghostnet",
    "yolov5n-mnasnet",
    "yolov5n-mobilenetv3-large",
    "yolov5n-squeezenet",
    "yolov5n-efficientnet-lite0",
    "yolov5n-shufflenetv1",
    "yolov5n-efficientnet-b0",
)
LEGS = (12_000, 36_000)
"""Pictures after which a run ends, and then goes on as one of the next length: the learning rate falls twice."""
SCHEDULE = {
    "--batch": "4",
    "--sizes": "192:0.6,256:0.4",
    "--learning-rate": "2e-3",
    "--mosaic": "0.6",
    "--ema": "0.99",
    "--seed": "0",
    "--processes": "1",
}
"""Small batches and one process per run: of few pictures, many steps. About 4000 of them."""
CHECK_FAILED = 1
TRAIN_SCENES = 6000
LABELLED = {"val": (400, 10_000_000), "calib": (128, 30_000_000), "judge": (150, 40_000_000)}
"""Scenes and first seed of each labelled set."""
SIZE = "256"
NOT_QUANTISED = "not-quantised.txt"


def edgedet(*arguments: str | Path, threads: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of edgedet and keep what it says on standard error; a failed check is the caller's to judge."""
    command = [sys.executable, "-m", "edgedet", *map(str, arguments)]
    say(f"$ edgedet {' '.join(command[3:])}")
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode not in (0, CHECK_FAILED):
        sys.exit(done.stderr)
    return done


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def render(work: Path) -> None:
    """Render what is not there yet."""
    edgedet("scenes", work / "scenes", "--count", str(TRAIN_SCENES))
    for name, (count, seed) in LABELLED.items():
        if not (work / f"{name}.json").exists():
            edgedet("scenes", work / f"{name}.json", "--count", str(count), "--seed", str(seed))


def options_until(images: int) -> str:
    """Return the options of a run as far as so many pictures."""
    return " ".join([f"--images {images}", *(part for pair in SCHEDULE.items() for part in pair)])


def is_trained(variant: str, work: Path) -> bool:
    """Tell whether a run has come to the end of this schedule."""
    finished = work / "runs" / variant / "finished"
    return finished.is_file() and finished.read_text(encoding="utf-8") == options_until(LEGS[-1])


def train(variant: str, work: Path) -> None:
    """Train a variant, or go on with its run; a finished one is left as it is."""
    if is_trained(variant, work):
        return
    run = work / "runs" / variant
    for images in LEGS:
        edgedet("train", run, work / "scenes", "--variant", variant, *options_until(images).split(), threads=1)
    (run / "finished").write_text(options_until(LEGS[-1]), encoding="utf-8")


def export(variant: str, work: Path) -> None:
    """Export a variant with INT8, or, where neither engine keeps the budget, without, and with the reason beside it."""
    bundle = work / "bundles" / variant
    if (bundle / "manifest.json").exists():
        return
    weights = work / "runs" / variant / "weights.safetensors"
    fp32 = ("export", weights, "--imgsz", SIZE, SIZE, "--out", bundle)
    done = edgedet(*fp32, "--int8", "--calib", work / "calib.json", "--data", work / "judge.json")
    if done.returncode == CHECK_FAILED:
        edgedet(*fp32)
        (bundle / NOT_QUANTISED).write_text(done.stderr, encoding="utf-8")


def compare(variants: Sequence[str], work: Path, runs: int) -> None:
    """Time all in one interleaved run, score them, and write tables, page and plots."""
    from edgedet.comparison.compare import compare_models
    from edgedet.comparison.contenders import display_names
    from edgedet.comparison.page import write_page
    from edgedet.comparison.plots import front, losses, short_names
    from edgedet.comparison.samples import draw_samples, sample_paths
    from edgedet.comparison.table import accuracy_table, cost_table, setup_names
    from edgedet.comparison.training_log import read_curve
    from edgedet.evaluation import load_dataset
    from edgedet_runtime.profiling.session import ProfileConfig

    data = load_dataset(work / "val.json")
    bundles = [work / "bundles" / variant for variant in variants]
    result = compare_models(bundles, ProfileConfig(runs=runs, layers=False), dataset=data)
    curves = [read_curve(work / "runs" / variant) for variant in variants]
    samples = draw_samples(result, sample_paths(None, data), progress=lambda *_: None)
    write_page(result, work / "compare.html", samples=samples, curves=curves)
    (work / "compare.json").write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")
    names = short_names(display_names([str(bundle) for bundle in bundles]))
    (work / "curves.svg").write_text(standalone(losses(curves)), encoding="utf-8")
    for setup, label in setup_names(result).items():
        (work / f"front-{label}.svg").write_text(standalone(front(result, setup, names)), encoding="utf-8")
    notes = [f"{variant}: {note}" for variant in variants for note in missed(work / "bundles" / variant)]
    text = "\n\n".join([markdown(accuracy_table(result), cost_table(result)), *notes]) + "\n"
    (work / "compare.md").write_text(text, encoding="utf-8")
    say(text)


def missed(bundle: Path) -> list[str]:
    """Return why engines have no INT8."""
    reason = bundle / NOT_QUANTISED
    if reason.exists():
        return [reason.read_text(encoding="utf-8").strip()]
    reports = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["quantization"]
    return [report["failed"] for report in reports.values() if "failed" in report]


def markdown(*tables: Table | None) -> str:
    """Return tables of the same models and engines as one in Markdown."""
    used = [table for table in tables if table is not None]
    columns = [*used[0].columns[:2], *(name for table in used for name in table.columns[2:])]
    rows = [
        [*parts[0][:2], *(cell for part in parts for cell in part[2:])]
        for parts in zip(*(table.rows for table in used), strict=True)
    ]
    lines = [columns, ["---"] * 2 + ["--:"] * (len(columns) - 2), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def standalone(svg: str) -> str:
    """Return a plot that follows the reader's light or dark scheme where no page sets its text colour."""
    style = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#d1d7e0}}</style>"
    head, _, rest = svg.partition(">")
    return f"{head}>{style}{rest}"


def main() -> None:
    """Go through the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--variants", default=",".join(VARIANTS), help="names from `edgedet models`, comma-separated")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, each of one thread")
    parser.add_argument("--runs", type=int, default=100, help="timed runs per model, engine and precision")
    parser.add_argument("--until", choices=("train", "export", "compare"), default="compare", help="stop after this")
    parser.add_argument("--only-trained", action="store_true", help="train none; take those that are done")
    options = parser.parse_args()
    work, variants = options.work, options.variants.split(",")
    render(work)
    if options.only_trained:
        variants = [variant for variant in variants if is_trained(variant, work)]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda variant: train(variant, work), variants))
    if options.until in ("export", "compare"):
        for variant in variants:
            export(variant, work)
    if options.until == "compare":
        compare(variants, work, options.runs)


if __name__ == "__main__":
    main()
