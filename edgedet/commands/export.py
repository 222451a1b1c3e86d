"""``edgedet export``: a checkpoint becomes a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from edgedet import output
from edgedet.commands.numbers import PIXELS, POINTS, SEED, SHARE, number
from edgedet.commands.options import Conf, Iou, Json, split_list

if TYPE_CHECKING:
    from edgedet_export.config import Format
    from edgedet_export.pipeline import ExportReport
    from edgedet_runtime.bundle.quantization import QuantizationFacts

__all__ = ["export"]

TOOLS = ("torch", "onnx", "onnxruntime")
INT8_TOOLS = ("openvino",)
LATENCY_RUNS = 20


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="Training checkpoint, ONNX file, or a name from `edgedet models` for an untrained network; "
            "without it: the built-in model.",
            show_default=False,
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also write a quantised file for each engine.")] = False,
    calib: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures to calibrate INT8 with, like those of the device.")
    ] = None,
    formats: Annotated[str, typer.Option("--format", metavar="LIST", help="Model files to write.")] = "onnx,openvino",
    imgsz: Annotated[
        tuple[int, int] | None,
        number(PIXELS, "Input size; default: the checkpoint's own.", metavar="H W"),
    ] = None,
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="Architecture family, where the file fits more than one.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of an ONNX file: its contract, as `edgedet inspect --draft-spec` writes."),
    ] = None,
    head: Annotated[
        Literal["one-to-one", "one-to-many"] | None,
        typer.Option(
            help="Head of YOLOv10 and YOLO26: without or with NMS behind. Default: one-to-one.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the bundle; default: build/<name>.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--names", metavar="LIST", help="Class names, comma-separated, in place of the file's."),
    ] = None,
    outputs: Annotated[
        Literal["raw", "decoded", "nms"], typer.Option(help="Where the graph ends: raw heads, boxes, or NMS too.")
    ] = "raw",
    input: Annotated[
        Literal["uint8", "float32"], typer.Option(help="Input: a camera's NHWC BGR bytes, or the network's own.")
    ] = "uint8",
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Labelled pictures on which INT8 is held to --max-drop.")
    ] = None,
    max_drop: Annotated[float, number(POINTS, "Largest loss of AP by INT8, in points of 100.")] = 0.5,
    max_float: Annotated[float, number(SHARE, "Largest share of MACs that INT8 may leave float.")] = 0.15,
    conf: Conf = None,
    iou: Iou = None,
    interpolation: Annotated[
        Literal["linear", "linear-exact", "area-down"] | None,
        typer.Option(help="How pictures are resized; linear-exact: same bits on x86 and ARM. Default: as trained."),
    ] = None,
    seed: Annotated[int, number(SEED, "Seed of the weights of an untrained network.")] = 0,
    json: Json = False,
) -> None:
    """Take a trained checkpoint to a verified bundle: ONNX, OpenVINO and, with --int8, INT8 for both."""
    from edgedet.extras import require

    require(*TOOLS, *(INT8_TOOLS if int8 else ()), extra="export", purpose="edgedet export")
    from edgedet.api import export as run
    from edgedet.commands.int8_tables import show_int8
    from edgedet.spec_file import read_spec_file
    from edgedet_export.config import ExportConfig
    from edgedet_export.int8 import NoInt8Error

    contract = None if spec is None else read_spec_file(spec)
    config = ExportConfig(
        out=out,
        formats=cast("tuple[Format, ...]", split_list(formats, str, "--format")),
        imgsz=imgsz,
        family=family,
        head=head,
        classes=split_list(classes, str, "--names"),
        outputs=outputs,
        input=input,
        int8=int8,
        calib=calib,
        data=data,
        max_drop=max_drop,
        max_float=max_float,
        conf=conf,
        iou=iou,
        interpolation=interpolation,
        seed=seed,
    )
    try:
        with output.progress_bar("export") as step:
            report = run(checkpoint, config, spec=contract, progress=step)
            step(description="measuring latency")
            latency = _latency(report.bundle)
    except NoInt8Error as e:
        if not json:
            show_int8(e.reports)
        raise
    if json:
        output.document({**report.to_dict(), "latency_ms": latency})
    else:
        _show(report, latency)


def _latency(bundle: Path) -> dict[str, float]:
    """Return the end-to-end median by file and engine, from one short interleaved run."""
    from edgedet_runtime.profiling.session import ProfileConfig, profile_model

    profile = profile_model(bundle, ProfileConfig(runs=LATENCY_RUNS, cold_starts=0, layers=False, trial="never"))
    return {
        f"{entry.file} on {entry.plan.engine}": round(entry.summaries()["end_to_end_ms"].median, 3)
        for entry in profile.plans
    }


def _show(report: ExportReport, latency: dict[str, float]) -> None:
    from edgedet.commands.int8_tables import show_int8
    from edgedet.commands.rung_table import show_rungs

    manifest = report.manifest
    show_rungs(manifest.parity)
    sizes = {entry.path: entry.bytes for entry in manifest.files}
    rows = []
    for entry in manifest.files:
        for engine in entry.engines:
            size = entry.bytes + sizes.get(entry.path.removesuffix(".xml") + ".bin", 0)
            ms = latency.get(f"{entry.path} on {engine}")
            chosen = manifest.recommended.get(engine) == entry.precision
            facts = manifest.quantization.get(engine) if entry.precision == "int8" else None
            rows.append(
                [
                    entry.path,
                    engine,
                    entry.precision or "",
                    "" if facts is None or facts.executed is None else f"{facts.executed.macs:.0%}",
                    "" if facts is None else _loss(facts),
                    f"{size / 1e6:.2f}",
                    "" if ms is None else f"{ms:.2f}",
                    "recommended" if chosen else "",
                ]
            )
    output.table(
        ["file", "engine", "precision", "MACs run in INT8", "loss", "MB", "ms", ""],
        rows,
        numeric=["MACs run in INT8", "MB", "ms"],
    )
    show_int8(manifest.quantization)
    for text in manifest.notes:
        output.note(text)
    output.line(f"bundle: {report.bundle}")


def _loss(facts: QuantizationFacts) -> str:
    """Say what INT8 costs, in points of 100, and by which measure."""
    chosen = next((trial for trial in facts.pareto if trial.chosen), None)
    return "" if chosen is None else f"{chosen.drop:.2f} points of {facts.measure}"
