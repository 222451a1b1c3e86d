"""``edgedet detect``: boxes in pictures, folders, videos and cameras."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedet import output
from edgedet.commands.numbers import COUNT, Real, number
from edgedet.commands.options import Conf, Engine, Iou, Json, Precision, Threads, split_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedet_runtime import Detections, Detector, Frame
    from edgedet_runtime.sources import Failed, Source

__all__ = ["detect"]


def detect(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] SOURCE...",
            help="MODEL: a bundle folder, .onnx or .xml; without it, the bundle of the built-in model. "
            "SOURCE: image, folder, glob, video or camera index.",
            show_default=False,
        ),
    ],
    engine: Engine = None,
    precision: Precision = None,
    threads: Threads = None,
    plan: Annotated[
        str | None,
        typer.Option(
            metavar="auto", help="Engine, precision and threads as profile --save-plan stored them in the bundle."
        ),
    ] = None,
    conf: Conf = None,
    iou: Iou = None,
    max_det: Annotated[int | None, number(COUNT, "Objects per picture, at most.")] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only these classes: names or ids, comma-separated.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the boxes and write the pictures or video there.")
    ] = None,
    allow_incomplete: Annotated[
        bool,
        typer.Option("--allow-incomplete", help="Exit 0 although a picture is damaged or a stream ends too early."),
    ] = False,
    stall_s: Annotated[
        float, number(Real(0.1, 86_400.0), "How long a camera may take for a frame.", "--stall", metavar="SECONDS")
    ] = 20.0,
    max_frames: Annotated[int | None, number(COUNT, "Stop after so many pictures.")] = None,
    json: Json = False,
) -> None:
    """Find objects in pictures.

    A picture that cannot be read, and a video or camera that ends too early, is reported; the rest follows, and the
    exit code is 1.
    """
    from edgedet.commands.default_model import split_model

    model, sources = split_model(arguments)
    from edgedet_runtime import Detector, InputError
    from edgedet_runtime.bundle.plan import PLAN_FILE
    from edgedet_runtime.errors import CheckFailedError
    from edgedet_runtime.sources import find_source
    from edgedet_runtime.writable import require_writable

    if save is not None:
        require_writable(save, argument="save")
    if plan not in (None, "auto"):
        raise InputError(f"--plan: expected auto, got {plan!r}")
    if plan is not None and not (model / PLAN_FILE).is_file():
        output.note(f"{model}: no plan is stored, the defaults hold; to store one: edgedet profile {model} --save-plan")
    found = [find_source(source) for source in sources]
    detector = Detector(
        model,
        engine=engine,
        precision=precision,
        threads=threads,
        plan="auto" if plan else None,
        conf=conf,
        iou=iou,
        max_det=max_det,
        classes=split_list(classes, _id_or_name, "--classes"),
    )
    images: list[dict[str, Any]] = []
    failures: list[InputError] = []
    errors: list[dict[str, str]] = []
    unsaid: list[InputError] = []

    def failed(path: str, error: InputError) -> None:
        failures.append(error)
        errors.append({"path": path, "message": str(error)})
        unsaid.append(error)

    def say_errors() -> None:
        while unsaid:
            output.error(unsaid.pop(0))

    several = len(found) > 1 or found[0].many
    interrupted = False
    try:
        for image in _run(detector, found, save, max_frames, failed, stall_s):
            images.append(image)
            if not json:
                output.line(_sentence(image))
            say_errors()  # read one frame ahead
    except KeyboardInterrupt:  # how a camera's stream ends; what was found until then is the result
        interrupted = True
    if failures and not several and not images:
        raise failures[0]
    say_errors()
    if json:
        document = {"model": str(detector.model_file.path), "engine": detector.engine_name, "images": images}
        output.document({**document, "errors": errors} if errors else document)
    elif len(images) == 1:
        _show(images[0])
    if interrupted:
        raise typer.Exit(130)
    if failures:
        summary = f"{len(failures)} of the pictures and streams could not be read to their end"
        if not allow_incomplete:
            raise CheckFailedError(f"{summary}; --allow-incomplete accepts that")
        output.note(summary)


def _id_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _run(
    detector: Detector,
    sources: list[Source],
    save: Path | None,
    max_frames: int | None,
    failed: Failed,
    stall_s: float,
) -> Iterator[dict[str, Any]]:
    """Yield one JSON object per picture."""
    from itertools import islice

    from edgedet.commands.drawn import DrawnWriter
    from edgedet_runtime import iter_frames

    frames = (frame for source in sources for frame in iter_frames(source, failed=failed, stall_s=stall_s))
    some = islice(frames, max_frames)
    if any(_is_live(source) for source in sources):  # a result is not to wait for the camera's next frame
        found: Iterator[tuple[Frame, Detections]] = ((frame, detector(frame.image_bgr)) for frame in some)
    else:
        found = detector.stream(some, image=lambda frame: frame.image_bgr)
    with DrawnWriter(save) as writer:
        for frame, detections in found:
            if save is not None:
                writer.write(frame, detections)
            yield _as_json(frame, detections, detector)


def _is_live(source: Source) -> bool:
    return source.camera is not None or not all(file.is_file() for file in source.files)


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    rounded = {**entry, "score": round(entry["score"], 6), "box_xyxy": [round(v, 3) for v in entry["box_xyxy"]]}
    if "keypoints_xy" in entry:
        rounded["keypoints_xy"] = [[round(v, 3) for v in xy] for xy in entry["keypoints_xy"]]
    return rounded


def _as_json(frame: Frame, detections: Detections, detector: Detector) -> dict[str, Any]:
    height, width = frame.image_bgr.shape[:2]
    times = detector.last_times
    assert times is not None, "the detector has just been called"
    return {
        "path": frame.path,
        **({"frame": frame.index} if frame.stream else {}),
        "width": width,
        "height": height,
        "detections": [_rounded(entry) for entry in detections.to_dict()["detections"]],
        "time_ms": {
            "pre": round(times.pre_ms, 3),
            "infer": round(times.infer_ms, 3),
            "post": round(times.post_ms, 3),
        },
    }


def _sentence(image: dict[str, Any]) -> str:
    counts = Counter(d["class_name"] for d in image["detections"])
    found = ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "nothing found"
    where = f"{image['path']}#{image['frame']}" if "frame" in image else image["path"]
    ms = image["time_ms"]
    times = f"{ms['pre']:.1f} + {ms['infer']:.1f} + {ms['post']:.1f} ms"
    return f"{where} {image['width']}x{image['height']}: {found} ({times})"


def _show(image: dict[str, Any]) -> None:
    if image["detections"]:
        output.table(
            ["class", "score", "x0", "y0", "x1", "y1"],
            [[d["class_name"], f"{d['score']:.3f}", *(f"{v:.1f}" for v in d["box_xyxy"])] for d in image["detections"]],
            numeric=["score", "x0", "y0", "x1", "y1"],
        )
