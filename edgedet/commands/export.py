"""``edgedet export``: a checkpoint becomes a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from edgedet import output
from edgedet.commands.options import Conf, Iou, Json, split_list

if TYPE_CHECKING:
    from edgedet_export.config import Format

__all__ = ["export"]

TOOLS = ("torch", "onnx", "onnxruntime")
INT8_TOOLS = ("nncf", "openvino")


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
    format: Annotated[str, typer.Option(metavar="LIST", help="Model files to write.")] = "onnx,openvino",
    imgsz: Annotated[
        tuple[int, int] | None, typer.Option(metavar="H W", help="Input size; default: the checkpoint's own.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(metavar="NAME", help="Architecture family, where the file fits more than one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the bundle; default: build/<name>.")
    ] = None,
    names: Annotated[
        str | None, typer.Option(metavar="LIST", help="Class names, comma-separated, in place of the file's.")
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
    max_drop: Annotated[float, typer.Option(help="Largest loss of AP by INT8, in points of 100.")] = 0.5,
    max_float: Annotated[float, typer.Option(help="Largest share of MACs that INT8 may leave float.")] = 0.15,
    conf: Conf = None,
    iou: Iou = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights of an untrained network.")] = 0,
    json: Json = False,
) -> None:
    """Take a trained checkpoint to a verified bundle: ONNX, OpenVINO and, with --int8, INT8 for both."""
    from edgedet.extras import require

    require(*TOOLS, *(INT8_TOOLS if int8 else ()), extra="export", purpose="edgedet export")
    from edgedet_export.config import ExportConfig
    from edgedet_export.pipeline import export as run

    config = ExportConfig(
        out=out,
        formats=cast("tuple[Format, ...]", split_list(format, str, "--format")),
        imgsz=imgsz,
        family=family,
        classes=split_list(names, str, "--names"),
        outputs=outputs,
        input=input,
        int8=int8,
        calib=calib,
        data=data,
        max_drop=max_drop,
        max_float=max_float,
        conf=conf,
        iou=iou,
        seed=seed,
    )
    with output.progress_bar("export") as step:
        report: Any = run(checkpoint, config, progress=step)
    if json:
        output.document(report.to_dict())
    else:
        _show(report)


def _show(report: Any) -> None:
    raise SystemExit(report)
