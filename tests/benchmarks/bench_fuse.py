"""What fusing buys, per family: modules, parameters, ONNX nodes, and the measured speed-up of fused over unfused ONNX.

    python tests/benchmarks/bench_fuse.py [--size 416] [--rounds 30] [VARIANT ...]

Both files are traced from the same untrained network and run in onnxruntime with its default optimisations, in one
process, interleaved; the ratio is of medians. The torch exporter and onnxruntime fold BatchNorm into convolutions by
themselves, so the ratio shows what is left for us: branches, implicit layers, space-to-depth.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet_export.stages import Stage

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / p) for p in ("export", "models", "runtime"))]

VARIANTS = (
    "yolov5n",
    "yolov5n-spd",
    "yolov6n",
    "yolov6-lite-s",
    "yolov7-tiny",
    "yolov7",
    "yolox-nano",
    "damoyolo-n",
    "damoyolo-t",
    "yolov3-tiny",
    "yolov4-tiny",
    "edgecode-n",
    "yolov8n",
    "yolo11n",
    "yolo12n",
    "gelan-t",
    "yolov9t",
    "yolov10n",
    "yolo26n",
)


def _timed(stage: Stage, tensor: npt.NDArray[Any], _round: int) -> float:
    from edgedet_runtime.profiling.turns import elapsed_ms

    return elapsed_ms(lambda: stage.run(tensor))


def main() -> int:
    """Print the table as Markdown."""
    from edgedet_export.fuse import fuse
    from edgedet_export.stages import onnx_stage
    from edgedet_export.to_onnx import to_onnx
    from edgedet_models import build
    from edgedet_models.complexity import count
    from edgedet_runtime.profiling.turns import take_turns

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=[])
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    write = sys.stdout.write
    write("| model | params | GFLOPs at 640 | params fused | modules | ONNX nodes | declined | fused faster by |\n")
    write("|---|--:|--:|--:|--:|--:|--:|--:|\n")
    names = tuple(f"class{i}" for i in range(80))
    for variant in options.variants or VARIANTS:
        model = build(variant, names)
        model.choose_head(None)
        size = -(-options.size // model.stride) * model.stride
        gflops = count(model, (640, 640)).gflops
        model.spec = model.spec.replace(input=dataclasses.replace(model.spec.input, height=size, width=size))
        example = model.dummy_input((model.stride * 2, model.stride * 2))
        fused, report = fuse(model, example)
        files = [to_onnx(model), to_onnx(fused)]
        stages = [onnx_stage(name, file, model.spec) for name, file in zip(("unfused", "fused"), files, strict=True)]
        tensor = model.dummy_input().numpy()

        turns = take_turns(
            {stage.name: partial(_timed, stage, tensor) for stage in stages},
            runs=options.rounds,
        )
        unfused_ms, fused_ms = (statistics.median(ms for block in turns[s.name] for ms in block) for s in stages)
        declined = sum(len(p.declined) for p in report.passes)
        write(
            f"| {variant} | {model.num_parameters:,} | {gflops:.2f} | {report.params_after:,} |"
            f" {report.modules_before} → {report.modules_after} |"
            f" {len(files[0].graph.node)} → {len(files[1].graph.node)} | {declined} | {unfused_ms / fused_ms:.2f}x |\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
