"""The last rungs of the ladder: each written file, as it lies on the disk, against the network that was judged.

What was judged lives in memory: the FP32 graph that climbed the ladder, and per engine the INT8 candidate that the
search chose. It is kept as bytes from before any writer has it, and opened from there. A writer could still damage
what it writes. So each file is opened by the engine that will run it, through the
device's own runtime, and compared with the judged network on real pictures:

- raw outputs. In the engine that judged, the arithmetic is the same and so are the outputs, up to `SAME_ARITHMETIC`. In
  another engine (an FP32 graph was judged in onnxruntime, its IR runs in OpenVINO) they hold `OTHER_ARITHMETIC`, or
  `parity.NOISE_FACTOR` times the network's own float32 noise where that is larger;
  A file that decodes in the graph is opened at its raw heads once more, see `edgedet_export.raw_heads`;
- candidates, their scores and boxes, within the ladder's tolerances. What a file with decoded outputs gives is compared
  with the dense decoding of the judged raw outputs;
- detections: nothing lost and nothing gained, at a threshold in a gap between scores. A file that suppresses in the
  graph has its threshold within, and is compared at that.

The golden vectors are what the judged network detects, never what the file does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.alignment import align, matching_order
from edgedet_export.golden import threshold_in_gap
from edgedet_export.parity import (
    BOX_TOLERANCE_PX,
    NOISE_FACTOR,
    SCORE_TOLERANCE,
    candidate_errors,
    decode_candidates,
    output_differences,
    within_reach,
)
from edgedet_export.raw_heads import open_raw_heads
from edgedet_runtime import Detections, Detector
from edgedet_runtime.bundle.model_files import Precision
from edgedet_runtime.bundle.rungs import Noise, OutputDifference, Rung
from edgedet_runtime.choices import Trial
from edgedet_runtime.doctor.matching import without_counterpart
from edgedet_runtime.engines import Engine, EngineName, load_engine
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import ModelSpec

__all__ = ["OTHER_ARITHMETIC", "SAME_ARITHMETIC", "FileCheck", "Judge", "Judged", "Written", "check_file"]

SAME_ARITHMETIC = 1e-5
"""Largest difference of a raw output, relative to ``max(1, |value|)``, where the same engine runs the same graph."""

OTHER_ARITHMETIC = 1e-3
"""The same where another engine adds in another order."""

_MANY = 1000
"""Detections that are looked at to find a gap between scores."""

Image = npt.NDArray[np.uint8]
Tensor = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A network as it was judged.

    Attributes:
        name: What it is called in the table of rungs.
        model: ONNX with raw heads, serialized.
        spec: Its contract.
        engine: The engine that ran it when it was judged.
    """

    name: str
    model: bytes
    spec: ModelSpec
    engine: EngineName

    @classmethod
    def of(cls, name: str, model: onnx.ModelProto, spec: ModelSpec, engine: EngineName) -> Judged:
        """Take a network as it is now; what happens to `model` later does not change it."""
        return cls(name, model.SerializeToString(), spec, engine)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A file of a bundle in the making.

    Attributes:
        path: Within the bundle, with forward slashes.
        precision: ``fp32`` or ``int8``.
        engine: The engine that will run it.
        judged: What it must be.
    """

    path: str
    precision: Precision
    engine: EngineName
    judged: Judged


@dataclass(frozen=True, slots=True, eq=False)
class FileCheck:
    """What the comparison of one file gave.

    Attributes:
        rung: The row of the ladder.
        conf: Threshold at which the golden picture was looked at.
        golden: What the judged network detects in the golden picture, at that threshold.
    """

    rung: Rung
    conf: float
    golden: Detections


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One picture in the judged network: raw outputs (copies), where the picture lies, all detections by score."""

    raw: tuple[Tensor, ...]
    letterbox: Letterbox
    gap: float


class Judge:
    """A judged network in its engine, with what it says of each picture.

    Attributes:
        judged: The network.
        images: Pictures, uint8 BGR; the last one is the golden picture.
    """

    def __init__(self, judged: Judged, images: Sequence[Image]) -> None:
        """Run the network on all pictures, in the engine that judged it.

        Raises:
            EngineError: The engine refuses it.
        """
        self.judged = judged
        self.images = images
        preprocess = Preprocessor(judged.spec.input, judged.spec.resize)
        engine = load_engine(judged.engine, judged.model, judged.spec, threads=1)
        try:
            self.seen = [self._look(engine, *preprocess(image)) for image in images]
        finally:
            engine.close()

    def _look(self, engine: Engine, tensor: Tensor, letterbox: Letterbox) -> _Seen:
        spec = self.judged.spec
        raw = tuple(np.array(output) for output in engine.infer(tensor))
        many = replace(spec.thresholds, conf=0.0, max_det=_MANY)
        return _Seen(raw, letterbox, threshold_in_gap(postprocess(raw, letterbox, spec, many).scores))

    def detections(self, index: int, conf: float) -> Detections:
        """Return what the network detects in a picture above a threshold."""
        seen, spec = self.seen[index], self.judged.spec
        return postprocess(seen.raw, seen.letterbox, spec, replace(spec.thresholds, conf=conf))


def check_file(folder: Path, written: Written, judge: Judge, noise: Noise, *, trial: Trial = "never") -> FileCheck:
    """Compare a file with the network that was judged.

    Args:
        folder: The bundle in the making.
        written: The file.
        judge: What it must be.
        noise: Rounding noise of the network, which widens the tolerances of other arithmetic where it exceeds them.
        trial: Whether the engine loads the file in a child process first.

    Returns:
        The rung, passed or not, and the golden detections.

    Raises:
        EngineError: The engine cannot run the file.
        CheckFailedError: The outputs have other shapes than those that were judged, or the file's contract is another.
    """
    stage = f"{written.path} on {written.engine}"
    spec = judge.judged.spec
    tolerances = _Tolerances.of(noise)
    with Detector(folder / written.path, engine=written.engine, threads=1, trial=trial) as detector:
        _require_spec(detector.spec, spec, rung=f"parity {judge.judged.name} → {stage}")
        kind = detector.spec.decode.kind
        seen = [_look_again(detector, judge, i, tolerances) for i in range(len(judge.images))]
    before, after = [s.raw for s in judge.seen], [s.outputs for s in seen]
    differences: tuple[OutputDifference, ...] = ()
    errors = [(0.0, 0.0)]
    heads: Sequence[Sequence[Tensor]] | None
    if kind in ("decoded", "nms"):
        heads = _raw_heads(folder / written.path, written.engine, judge)
    else:
        names = spec.decode.output_names
        heads = [[dict(zip(detector.spec.decode.output_names, b, strict=True))[n] for n in names] for b in after]
    if heads is not None:
        heads = [align(spec, a, b) for a, b in zip(before, heads, strict=True)]
        differences = output_differences(spec, before, heads, rung=f"parity {judge.judged.name} → {stage}")
        errors += [
            candidate_errors(*decode_candidates(spec, a), *decode_candidates(spec, b))
            for a, b in zip(before, heads, strict=True)
        ]
    if kind == "decoded":
        errors += [_decoded_errors(spec, a, b[0][0]) for a, b in zip(before, after, strict=True)]
    same = written.engine == judge.judged.engine
    rung = Rung(
        stage=stage,
        against=judge.judged.name,
        outputs=differences,
        score_error=float(np.max([e[0] for e in errors])),
        box_error_px=float(np.max([e[1] for e in errors])),
        score_tolerance=tolerances.score,
        box_tolerance_px=tolerances.box_px,
        images=len(judge.images),
        raw_tolerance=SAME_ARITHMETIC if same else max(OTHER_ARITHMETIC, NOISE_FACTOR * noise.raw),
        lost=sum(s.lost for s in seen),
        gained=sum(s.gained for s in seen),
    )
    return FileCheck(rung, seen[-1].conf, seen[-1].expected)


def _decoded_errors(spec: ModelSpec, before: Sequence[Tensor], rows: Tensor) -> tuple[float, float]:
    """Compare judged raw outputs with what a file decoded, (M, 4 + classes); see `candidate_errors`."""
    boxes, scores = decode_candidates(spec, before)
    if spec.decode.kind == "queries" and rows.shape == (len(boxes), 4 + scores.shape[1]):
        rows = rows[matching_order(np.concatenate((boxes, scores), axis=1), rows)]
    return candidate_errors(boxes, scores, within_reach(spec, rows[:, :4]), rows[:, 4:])


def _raw_heads(path: Path, name: EngineName, judge: Judge) -> list[tuple[Tensor, ...]] | None:
    """Return what the raw heads within a file give for each picture; None where they cannot be reached."""
    engine = open_raw_heads(path, name, judge.judged.spec)
    if engine is None:
        return None
    preprocess = Preprocessor(judge.judged.spec.input, judge.judged.spec.resize)
    try:
        return [tuple(np.array(o) for o in engine.infer(preprocess(image)[0])) for image in judge.images]
    finally:
        engine.close()


def _require_spec(found: ModelSpec, judged: ModelSpec, *, rung: str) -> None:
    """Refuse a file whose contract is another one; raw outputs are decoded as those that were judged.

    Raises:
        CheckFailedError: It is.
    """
    if found.decode.kind in ("decoded", "nms"):
        judged = judged.replace(decode=found.decode)
    found, expected = _levels_by_name(found), _levels_by_name(judged)
    for field in fields(ModelSpec):
        if getattr(found, field.name) != getattr(expected, field.name):
            raise CheckFailedError(
                f"{rung}: expected the contract that was judged, got another {field.name} in the file;"
                " nothing was written"
            )


def _levels_by_name(spec: ModelSpec) -> ModelSpec:
    """Return a contract whose levels are in an order of their own; the order has no meaning."""
    levels = sorted(spec.decode.levels, key=lambda level: level.boxes)
    return spec.replace(decode=replace(spec.decode, levels=tuple(levels)))


@dataclass(frozen=True, slots=True)
class _Tolerances:
    """What scores (0..1) and boxes (input pixels) may differ by."""

    score: float
    box_px: float

    @classmethod
    def of(cls, noise: Noise) -> _Tolerances:
        return cls(max(SCORE_TOLERANCE, NOISE_FACTOR * noise.score), max(BOX_TOLERANCE_PX, NOISE_FACTOR * noise.box_px))


@dataclass(frozen=True, slots=True, eq=False)
class _SeenAgain:
    """One picture in a written file, beside what the judged network detects there."""

    outputs: tuple[Tensor, ...]
    conf: float
    expected: Detections
    lost: int
    gained: int


def _look_again(detector: Detector, judge: Judge, index: int, tolerances: _Tolerances) -> _SeenAgain:
    tensor, letterbox = detector.preprocess(judge.images[index])
    outputs = tuple(np.array(output) for output in detector.infer(tensor))
    suppressed_inside = detector.spec.decode.kind == "nms"
    conf = detector.spec.thresholds.conf if suppressed_inside else judge.seen[index].gap
    detector.thresholds = replace(detector.thresholds, conf=conf)
    expected = judge.detections(index, conf)
    found = detector.postprocess(outputs, letterbox)
    unsure = [conf]
    if len(expected) == detector.thresholds.max_det:  # which of many equals come last is a matter of rounding
        unsure.append(float(expected.scores[-1]))
    pixels = tolerances.box_px / min(letterbox.gain_xy)
    lost = without_counterpart(expected, found, box_px=pixels, score=tolerances.score, unsure=unsure)
    gained = without_counterpart(found, expected, box_px=pixels, score=tolerances.score, unsure=unsure)
    return _SeenAgain(outputs, conf, expected, len(lost), len(gained))
