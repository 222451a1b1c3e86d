"""One table: each network x (FP32, the engine's usual quantizer, edgedet) x engine.

    python tests/benchmarks/bench_int8.py [--models NAME ...] [--engines onnxruntime openvino] [--out FILE]

Without arguments: the trained YOLOX-nano (AP on coco128 val), the built-in detector, the three trained YOLOv5n
(agreement with FP32 on the same pictures) and the fixtures of the YOLO families. MODEL may also be any checkpoint or
ONNX file that `edgedet export` reads; ``PATH:FAMILY`` names the family.

All quantizers get the same FP32 graph with raw heads and the same calibration pictures; none sees the pictures that
score. "plain" is onnxruntime's ``quantize_static`` with its defaults, and NNCF's ``quantize`` with the MIXED preset.
Agreement: average precision over IoU 0.5..0.95 with FP32's detections as the truth. INT8: share of the MACs that the
engine's own profile shows in INT8. Speed: FP32 latency divided by this file's, interleaved in one process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / p) for p in ("export", "models", "runtime"))]

from edgedet.evaluation import evaluate, load_dataset  # noqa: E402
from edgedet_export.config import ExportConfig  # noqa: E402
from edgedet_export.graph.conversion import set_metadata  # noqa: E402
from edgedet_export.pipeline import export  # noqa: E402
from edgedet_export.quantize import QuantConfig, get_target, measure, quantize  # noqa: E402
from edgedet_export.quantize.agreement import compare_detections, detect, reference_conf  # noqa: E402
from edgedet_export.quantize.images import picture_paths  # noqa: E402
from edgedet_export.quantize.latency import measure_latencies  # noqa: E402
from edgedet_runtime.candidates import Candidates  # noqa: E402
from edgedet_runtime.detector import Detector  # noqa: E402
from edgedet_runtime.engines import EngineName  # noqa: E402
from edgedet_runtime.errors import EdgedetError  # noqa: E402
from edgedet_runtime.labelled import LabelledSet  # noqa: E402
from edgedet_runtime.pictures import read_image  # noqa: E402
from edgedet_runtime.profiling.layers import int8_share, profile_layers  # noqa: E402
from edgedet_runtime.spec import ModelSpec  # noqa: E402
from tests.shared_folder import shared_folder  # noqa: E402

Tensor = npt.NDArray[Any]

YOLOX = "weights/yolox-nano-onnx/yolox_nano.onnx:yolox"
DEFAULTS = [
    YOLOX,
    "builtin",
    *(
        f"weights/yolov5n-custom/yolov5n_{n}.pt"
        for n in ("face_nc1_Model", "ppe_nc2_Model", "duckietown_nc4_DetectionModel")
    ),
    *(
        f"fixtures/{n}"
        for n in ("yolov5-yolov5n", "spd-yolov5n", "yolov6-yolov6n-deploy-w0125", "yolov7-tiny-w05", "yolox-nano")
    ),
]


@dataclass(frozen=True, slots=True)
class Network:
    """An FP32 model to quantize.

    Attributes:
        name: For the table.
        model: Raw heads, spec inside.
        spec: Its contract.
        labelled: Whether its classes are those of the labelled set.
    """

    name: str
    model: onnx.ModelProto
    spec: ModelSpec
    labelled: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    network: str
    engine: str
    what: str
    accuracy: str
    share: float
    megabytes: float
    speed: float


def main() -> int:
    """Print the table as Markdown, line by line."""
    options = _options()
    data = load_dataset(options.data)
    calib = picture_paths(options.calib)
    judge = [p.path for p in data.pictures][: options.judge]
    lines = ["| network | engine | file | accuracy | INT8 MACs | MB | speed |", "|---|---|---|---|--:|--:|--:|"]
    sys.stdout.write("\n".join(lines) + "\n")
    with tempfile.TemporaryDirectory(prefix="edgedet-bench-") as folder:
        for number, wish in enumerate(options.models or DEFAULTS):
            work = Path(folder) / str(number)
            network = _network(wish, options.shared, work, data)
            for engine in options.engines:
                for row in _rows(network, engine, work, calib, data, judge, options):
                    line = (
                        f"| {row.network} | {row.engine} | {row.what} | {row.accuracy} | {row.share:.1%} |"
                        f" {row.megabytes:.2f} | {row.speed:.2f}x |"
                    )
                    lines.append(line)
                    sys.stdout.write(line + "\n")
                    sys.stdout.flush()
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = shared_folder()
    parser.add_argument("--models", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--engines", nargs="*", default=["onnxruntime", "openvino"])
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--data", type=Path, default=shared / "data/coco128/instances_val.json")
    parser.add_argument("--calib", type=Path, default=shared / "data/coco128/images/calib")
    parser.add_argument("--judge", type=int, default=64, help="pictures for the agreement")
    parser.add_argument("--runs", type=int, default=60, help="timed runs of each file")
    parser.add_argument("--plain", action=argparse.BooleanOptionalAction, default=True, help="the usual quantizers too")
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    return parser.parse_args()


def _network(wish: str, shared: Path, work: Path, data: LabelledSet) -> Network:
    """Export a source to FP32 ONNX."""
    name, _, family = wish.partition(":")
    source: Path | None = None
    if name != "builtin":
        source = next(p for p in (Path(name), shared / name) if p.exists())
        if source.is_dir():
            source = next(p for p in sorted(source.glob("checkpoint.*")))
    config = ExportConfig(out=work / "fp32", formats=("onnx",), family=family or None)
    export(source, config)
    model = onnx.load(str(work / "fp32/model.onnx"))
    spec = ModelSpec.from_json(next(e.value for e in model.metadata_props if e.key == "edgedet"))
    label = name if source is None else source.parent.name if source.stem == "checkpoint" else source.stem
    trained = source is None or "fixtures" not in source.parts
    return Network(label, model, spec, trained and set(data.classes) <= set(spec.classes))


def _rows(
    network: Network,
    engine: EngineName,
    work: Path,
    calib: Sequence[Path],
    data: LabelledSet,
    judge: Sequence[Path],
    options: argparse.Namespace,
) -> Iterator[Row]:
    """Make, score and time the files of one network for one engine."""
    files: dict[str, Path | str] = {"FP32": _write(network.model, network.spec, engine, work / f"{engine}-fp32")}
    makers: dict[str, Callable[[], Path]] = {}
    if options.plain:
        plain = _plain_onnxruntime if engine == "onnxruntime" else _plain_nncf
        label = "quantize_static" if engine == "onnxruntime" else "NNCF MIXED"
        makers[label] = lambda: plain(network, calib, work / f"{engine}-plain")
    makers["edgedet"] = lambda: _ours(network, engine, calib, work / f"{engine}-ours", options.max_drop)
    for label, make in makers.items():
        try:
            files[label] = make()
        except EdgedetError as e:
            files[label] = str(e)
    detectors = {k: Detector(f, engine=engine) for k, f in files.items() if isinstance(f, Path)}
    first = detectors["FP32"]
    tensors = [first.preprocess(read_image(p))[0].copy() for p in judge]
    runners = {k: _runner(d) for k, d in detectors.items()}
    reference = [detect(runners["FP32"](t), network.spec) for t in tensors]
    latencies = measure_latencies(runners, tensors[:4], options.runs)
    for label, file in files.items():
        if isinstance(file, str):
            yield Row(network.name, engine, label, file.replace("|", "/"), 0.0, 0.0, float("nan"))
            continue
        accuracy = (
            _ap(detectors[label], data) if network.labelled else _agreement(runners[label], tensors, reference, network)
        )
        layers = profile_layers(engine, file, tensors[0], threads=first.threads, runs=4)
        size = sum(p.stat().st_size for p in file.parent.glob(f"{file.stem}.*")) / 1e6
        yield Row(network.name, engine, label, accuracy, int8_share(layers), size, latencies.speedup[label])


def _runner(detector: Detector) -> Callable[[Tensor], dict[str, npt.NDArray[np.float32]]]:
    names = detector.spec.decode.output_names
    return lambda tensor: {n: a.copy() for n, a in zip(names, detector.infer(tensor), strict=True)}


def _ap(detector: Detector, data: LabelledSet) -> str:
    return f"AP {evaluate(detector, data, multi_label=True).figures.ap:.3f}"


def _agreement(
    run: Callable[[Tensor], dict[str, npt.NDArray[np.float32]]],
    tensors: Sequence[Tensor],
    reference: list[Candidates],
    network: Network,
) -> str:
    found = [detect(run(t), network.spec) for t in tensors]
    conf = reference_conf(reference, network.spec)
    return f"agreement {compare_detections(reference, found, conf).agreement:.3f} (score > {conf:.3f})"


def _write(model: onnx.ModelProto, spec: ModelSpec, engine: EngineName, folder: Path) -> Path:
    target = get_target(engine)
    path = folder / f"model{Path(target.file).suffix}"
    target.write(path, model, spec)
    return path


def _ours(network: Network, engine: EngineName, calib: Sequence[Path], folder: Path, max_drop: float) -> Path:
    config = QuantConfig(engine, max_drop=max_drop)
    measured = measure(network.model, network.spec, calib, config)
    result = quantize(network.model, network.spec, calib, config, measured=measured)
    return _write(result.model, network.spec, engine, folder)


def _inputs(network: Network, calib: Sequence[Path]) -> Iterator[Tensor]:
    from edgedet_export.quantize.images import open_pictures

    return open_pictures(calib, limit=128).tensors(network.spec)


def _plain_onnxruntime(network: Network, calib: Sequence[Path], folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = network.spec.input.name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._tensors = _inputs(network, calib)

        def get_next(self) -> dict[str, Tensor] | None:
            tensor = next(self._tensors, None)
            return None if tensor is None else {name: tensor}

    folder.mkdir(parents=True)
    source = folder / "source.onnx"
    onnx.save(network.model, str(source))
    quant_pre_process(str(source), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
    target = folder / "model.onnx"
    quantize_static(str(folder / "prepared.onnx"), str(target), Reader())
    model = onnx.load(str(target))
    set_metadata(model, "edgedet", network.spec.to_json())
    onnx.save(model, str(target))
    return target


def _plain_nncf(network: Network, calib: Sequence[Path], folder: Path) -> Path:
    from edgedet_runtime.engines.openvino_package import openvino_package

    ov = openvino_package("NNCF's quantization")
    import nncf

    folder.mkdir(parents=True)
    model = ov.Core().read_model(network.model.SerializeToString())
    dataset = nncf.Dataset(list(_inputs(network, calib)))
    quantized = nncf.quantize(model, dataset, preset=nncf.QuantizationPreset.MIXED)
    quantized.set_rt_info(network.spec.to_json(), ["edgedet"])
    ov.save_model(quantized, str(folder / "model.xml"), compress_to_fp16=False)
    return folder / "model.xml"


if __name__ == "__main__":
    sys.exit(main())
