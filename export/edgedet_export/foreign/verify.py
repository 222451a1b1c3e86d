"""Check a cut file against the untouched one: same pictures in, same candidates out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from edgedet_export.foreign.file_input import INPUT_NAME, FileInput
from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.foreign.interpretation import Interpretation
from edgedet_export.foreign.session import open_session, run
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import ModelSpec

__all__ = ["Difference", "synthetic_picture", "verify_cut"]

_LOG = logging.getLogger(__name__)
BOX_TOLERANCE_PX = 0.02
BOX_TOLERANCE_RELATIVE = 1e-4
SCORE_TOLERANCE = 1e-4
HALF_FACTOR = 300.0
"""How much further a file may be off that computes in fp16, whose steps are 2^-11 instead of 2^-24."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Worst disagreement of a cut file with the untouched one, over all pictures and candidates.

    Attributes:
        boxes_px: Of box numbers: pixels if the file decodes them, raw units if not.
        scores: Of objectness and class columns.
        candidates: How many candidates were compared.
        pictures: How many pictures were used.
    """

    boxes_px: float
    scores: float
    candidates: int
    pictures: int


def synthetic_picture(height: int, width: int, seed: int = 7) -> npt.NDArray[np.uint8]:
    """Draw a picture with edges, gradients and texture, uint8 BGR (height, width, 3); the same for the same seed."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(30, 220, width)[None, :, None] * np.linspace(0.4, 1, height)[:, None, None]
    picture = np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8).copy()
    for _ in range(24):
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        x, y = (int(rng.integers(0, side)) for side in (width, height))
        size = int(rng.integers(max(2, min(height, width) // 40), max(3, min(height, width) // 4)))
        if rng.integers(2):
            cv2.circle(picture, (x, y), size, color, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(picture, (x, y), (x + size, y + 2 * size), color, -1)
    noise = rng.normal(0, 6, picture.shape)
    return np.asarray(np.clip(cv2.GaussianBlur(picture, (3, 3), 0) + noise, 0, 255), np.uint8)


def verify_cut(
    original: onnx.ModelProto | str,
    cut: onnx.ModelProto,
    *,
    file_input: FileInput,
    levels: Sequence[HeadLevel],
    found: Interpretation,
    spec: ModelSpec,
    pictures_bgr: Sequence[npt.NDArray[np.uint8]] = (),
) -> Difference:
    """Run both files on noise, a drawn picture and the given ones, and compare every candidate.

    Raises:
        CheckFailedError: They differ by more than 1e-4 in a score, or 0.02 px + 1e-4 relative in a box.
    """
    theirs_session = open_session(original, what="the file as given")
    ours_session = open_session(cut, what="the cut file")
    names = [o.name for o in theirs_session.get_outputs()]
    tolerance = HALF_FACTOR if "tensor(float16)" in {o.type for o in theirs_session.get_outputs()} else 1.0
    worst = {"boxes": 0.0, "scores": 0.0}
    prepare = Preprocessor(spec.input, spec.resize)
    inputs = [prepare(p)[0].copy() for p in _pictures(file_input, pictures_bgr)]
    for number, images in enumerate(inputs):
        outputs = run(theirs_session, file_input.feed(images), what="the file as given")
        theirs = found.layout.read(dict(zip(names, outputs, strict=True)), levels)
        raw = dict(zip(spec.decode.output_names, run(ours_session, {INPUT_NAME: images}), strict=True))
        for index, level in enumerate(levels):
            mine = spec.decode.levels[index]
            parts = {n: raw[n][0] for n in (mine.boxes, mine.objectness, mine.scores) if n is not None}
            file_columns = found.columns(theirs[index].astype(np.float64))
            for name, ours in found.render(index, parts).items():
                kind = "boxes" if name == "boxes" else "scores"
                unit = np.array([found.form.unit_hw[1], found.form.unit_hw[0]] * 2) if kind == "boxes" else 1.0
                a, b = ours * unit, file_columns[name] * unit
                error = _excess(a, b, kind)
                if error > tolerance:
                    gap = np.nanmax(np.abs(a - b))
                    raise CheckFailedError(
                        f"cut ONNX file: picture {number}, {name} at stride {level.stride}: expected what the file"
                        f" gives, got a difference of {gap:.3g} ({error:.3g} times what is allowed)"
                    )
                finite = np.isfinite(a) & np.isfinite(b)
                worst[kind] = max(worst[kind], float(np.abs(a - b)[finite].max(initial=0)))
    candidates = sum(found.layout.anchors * level.cells for level in levels)
    result = Difference(worst["boxes"], worst["scores"], candidates * len(inputs), len(inputs))
    _LOG.info("cut ONNX file agrees: boxes %.2g, scores %.2g", result.boxes_px, result.scores)
    return result


def _excess(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], kind: str) -> float:
    """Return the worst difference as a multiple of what is allowed; infinite where only one is finite."""
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))  # covers equal infinities
    with np.errstate(invalid="ignore"):
        allowed = SCORE_TOLERANCE * np.maximum(1, np.abs(theirs))
        if kind == "boxes":
            largest = np.abs(theirs).max(axis=-1, keepdims=True)  # a box of 1e15 px has no exact centre
            allowed = BOX_TOLERANCE_PX + BOX_TOLERANCE_RELATIVE * np.abs(theirs) + 1e-9 * largest
        ratio = np.where(same, 0.0, np.abs(ours - theirs) / allowed)
    return float(np.nan_to_num(ratio, nan=np.inf).max(initial=0))


def _pictures(file_input: FileInput, given: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    h, w = file_input.height, file_input.width
    noise = np.random.default_rng(5).integers(0, 256, (h, w, 3), np.uint8)
    return [noise, synthetic_picture(h, w), *given]
