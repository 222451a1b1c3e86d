"""Understand a foreign file's tail by asking it: which convolution is what, and how boxes and scores are made.

Every guess is a complete hypothesis (this convolution is the boxes, decoded in this way, written in that form) that is
rendered with our own decoder on random values and compared with what the tail gives for the same values, for every
candidate. What does not agree is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_export.foreign.families import FAMILIES, family_facts, family_of_kind
from edgedet_export.foreign.heads import HeadLevel
from edgedet_export.foreign.interpretation import Interpretation, ObjectnessForm, OutputForm, Roles, ScoreForm
from edgedet_export.foreign.layout import Layout, find_layouts
from edgedet_export.foreign.tail import Raw, Tail
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import BoxKind, DecodeSpec, LevelSpec, ScoreKind

__all__ = ["interpret"]

Array = npt.NDArray[Any]
Anchors = tuple[tuple[tuple[float, float], ...], ...]


def interpret(
    tail: Tail,
    size_hw: tuple[int, int],
    *,
    outputs: str,
    family: str | None = None,
    anchors_px: Anchors | None = None,
) -> Interpretation:
    """Find out what a tail does.

    Args:
        tail: The file's tail.
        size_hw: Height and width of the input.
        outputs: Description of the file's outputs, for messages.
        family: Family that the user names; needed where the outputs are not decoded.
        anchors_px: Anchors (levels, anchors, width and height) that the user names; used where the graph holds none.

    Raises:
        ModelFileError: No hypothesis agrees with the file, or it is of another family than was named.
    """
    if family is not None:
        family_facts(family)
    values = tail.random(seed=2)
    answer = tail.run(values)
    layouts = find_layouts(tail, anchors=len(anchors_px[0]) if anchors_px else None)
    for layout in layouts:
        given = [g.astype(np.float64) for g in layout.read(answer, tail.levels)]
        for guess in _hypotheses(tail, layout, size_hw, family, anchors_px):
            if _agrees(guess, values, given):
                return _named(guess, family, outputs, anchors_px)
    points = max((_coordinates(tail, layout) for layout in layouts), default=0) // 2
    if points:
        raise ModelFileError(
            f"outputs: expected boxes, scores and nothing else, got {points} landmarks per candidate as well"
            f" ({outputs}), as YOLOv5-face and pose networks give; edgedet detects boxes only"
        )
    convs = "; ".join(f"stride {lv.stride}: {'+'.join(str(c.channels) for c in lv.convs)}" for lv in tail.levels)
    raise ModelFileError(
        f"outputs: expected candidates of a known kind ({', '.join(FAMILIES)}), got {outputs}, from head convolutions"
        f" with channels {convs}; name the family with `family`, or give a spec"
        " (--spec), which `edgedet inspect FILE --draft-spec` drafts"
    )


def _coordinates(tail: Tail, layout: Layout) -> int:
    """Return how many columns behind the box are coordinates: they follow the cell where the raw values do not."""
    finest = layout.read(tail.run(tail.constant(0.0)), tail.levels)[0][..., 4:]
    along_y, along_x = (np.ptp(finest, axis=axis).max(axis=(0, 1)) for axis in (1, 2))
    return int(((along_y > 1e-3) | (along_x > 1e-3)).sum())


def _agrees(guess: Interpretation, values: Raw, given: Sequence[Array]) -> bool:
    for index, (arrays, candidates) in enumerate(zip(values, given, strict=True)):
        file_columns = guess.columns(candidates)
        for name, ours in guess.render(index, guess.parts(index, arrays)).items():
            scale = np.array([guess.form.unit_hw[1], guess.form.unit_hw[0]] * 2) if name == "boxes" else 1.0
            theirs = file_columns[name]
            if ours.shape != theirs.shape or not np.allclose(ours * scale, theirs * scale, rtol=1e-4, atol=5e-3):
                return False
    return True


def _hypotheses(
    tail: Tail,
    layout: Layout,
    size_hw: tuple[int, int],
    family: str | None,
    anchors_px: Anchors | None,
) -> Iterator[Interpretation]:
    """Yield complete hypotheses, decoded forms first: a raw form needs more from the user."""
    for roles, classes, objectness_forms in _role_choices(tail, layout):
        for form, decode in _box_choices(tail, layout, roles, size_hw, family, anchors_px):
            for objectness in objectness_forms:
                scores: tuple[ScoreForm, ...] = ("sigmoid", "raw", "product")
                for score in scores:
                    if score == "product" and roles.boxes is not None and roles.objectness is None:
                        continue
                    filled = replace(form, objectness=objectness, scores=score)
                    yield Interpretation(family or "", layout, roles, decode, filled, classes)


def _role_choices(tail: Tail, layout: Layout) -> Iterator[tuple[Roles, int, tuple[ObjectnessForm, ...]]]:
    """Yield roles, number of classes, and the objectness forms that the number of columns allows."""
    convs = tail.levels[0].convs
    if any(len(level.convs) != len(convs) for level in tail.levels):
        return
    if len(convs) == 1:
        classes = convs[0].channels // layout.anchors - 5
        yield Roles(), classes, ("sigmoid", "raw") if layout.columns == 5 + classes else ("absent",)
        return
    moved = _moved_columns(tail, layout)
    boxes = [i for i, columns in enumerate(moved) if columns and max(columns) < 4]
    others = [i for i in range(len(convs)) if i not in boxes]
    if len(boxes) != 1 or len(others) not in (1, 2):
        return
    if len(others) == 1:
        classes = convs[others[0]].channels
        forms: tuple[ObjectnessForm, ...] = ("one",) if layout.columns == 5 + classes else ("absent",)
        yield Roles(boxes[0], None, others[0]), classes, forms
        return
    objectness, scores = sorted(others, key=lambda i: (convs[i].channels != 1, min(moved[i], default=99)))
    classes = convs[scores].channels
    if convs[objectness].channels == 1:
        forms = ("sigmoid", "raw") if layout.columns == 5 + classes else ("absent",)
        yield Roles(boxes[0], objectness, scores), classes, forms


def _moved_columns(tail: Tail, layout: Layout) -> list[set[int]]:
    """Return, per convolution of the finest level, the columns that move when it changes."""
    before = layout.read(tail.run(tail.random(seed=3)), tail.levels)[0]
    moved = []
    for index in range(len(tail.levels[0].convs)):
        raw = tail.random(seed=3)
        raw[0][index] += np.random.default_rng(4).uniform(0.5, 1, raw[0][index].shape).astype(np.float32)
        after = layout.read(tail.run(raw), tail.levels)[0]
        moved.append(set(np.flatnonzero((after != before).any(axis=(0, 1, 2))).tolist()))
    return moved


def _box_choices(
    tail: Tail,
    layout: Layout,
    roles: Roles,
    size_hw: tuple[int, int],
    family: str | None,
    anchors_px: Anchors | None,
) -> Iterator[tuple[OutputForm, DecodeSpec]]:
    levels = tuple(_level_spec(i, level, roles) for i, level in enumerate(tail.levels))
    score: ScoreKind = "obj*cls" if roles.boxes is None or roles.objectness is not None else "cls"
    for unit_hw in ((1, 1), size_hw):
        for corners in (False, True):
            form = OutputForm("decoded", corners, unit_hw)
            if roles.boxes is None:
                measured = _measure_anchors(tail, layout, levels, form)
                if measured is not None:
                    yield form, DecodeSpec("anchors", measured, score=score)
                continue
            channels = tail.levels[0].convs[roles.boxes].channels
            if channels == 4:
                yield form, DecodeSpec("points-exp", levels, score=score)
                for offset in (0.5, 0.0):
                    yield form, DecodeSpec("ltrb", levels, score=score, cell_offset=offset)
            elif channels % 4 == 0:
                for offset in (0.5, 0.0):
                    yield form, DecodeSpec("dfl", levels, score=score, bins=channels // 4, cell_offset=offset)
    raw_kind = family_facts(family).raw_kind if family is not None else None
    raw_spec = _raw_decode(raw_kind, levels, score, layout, family, anchors_px)
    if raw_spec is not None:
        yield OutputForm("raw"), raw_spec
        yield OutputForm("sigmoid"), raw_spec


def _raw_decode(
    kind: BoxKind | None,
    levels: tuple[LevelSpec, ...],
    score: ScoreKind,
    layout: Layout,
    family: str | None,
    anchors_px: Anchors | None,
) -> DecodeSpec | None:
    """Return how boxes that the file leaves raw are decoded, by the family's convention.

    Without a family the kind is a placeholder: the caller refuses such a file, but can then say why.
    """
    if kind != "anchors":
        return DecodeSpec(kind or "points-exp", levels, score=score)
    anchors = anchors_px or family_facts(family or "").anchors.get(len(levels))
    if anchors is None or len(anchors) != len(levels) or any(len(a) != layout.anchors for a in anchors):
        return None
    spread = tuple(replace(lv, anchors_px=a, scale_xy=2.0) for lv, a in zip(levels, anchors, strict=True))
    return DecodeSpec("anchors", spread, score=score)


def _named(guess: Interpretation, family: str | None, outputs: str, anchors_px: Anchors | None) -> Interpretation:
    """Settle the family and say what was taken from where."""
    notes: list[str] = []
    raw = guess.form.boxes != "decoded"
    if raw and family is None:
        likely = (
            "yolov5 or yolov7"
            if guess.roles.boxes is None
            else "yolox"
            if guess.roles.objectness
            else "yolov8"
            if guess.decode.kind == "dfl"
            else "yolov6"
        )
        raise ModelFileError(
            f"outputs: the boxes are not decoded in the file ({outputs}), so it does not tell what they mean; name the"
            f" family with `family` (by its shape {likely})"
        )
    kind = guess.decode.kind
    name = family or family_of_kind(kind, constant_objectness=guess.form.objectness == "one")
    if kind not in family_facts(name).kinds:
        raise ModelFileError(
            f"`family` {name}: expected boxes of kind {' or '.join(family_facts(name).kinds)}, got {kind}, which is"
            f" {family_of_kind(kind, constant_objectness=guess.form.objectness == 'one')}'s"
        )
    if name == "yolov7" and guess.num_classes == 1:
        levels = tuple(replace(level, scores=None) for level in guess.decode.levels)
        guess = replace(guess, decode=replace(guess.decode, levels=levels, score="obj"))
        notes.append("score: objectness alone, as the official code has it for one class")
    if raw and kind == "anchors":
        source = "those given" if anchors_px else f"{name}'s standard ones, as the graph holds none"
        notes.append(f"anchors: {source}; wrong anchors give wrong box sizes")
    elif kind == "anchors":
        notes.append("anchors and strides: read from the graph")
    if raw:
        notes.append(f"box decoding: {name}'s convention, as the file leaves boxes undecoded")
    if guess.form.scores == "raw" and not raw:
        notes.append("scores: without a sigmoid in the file; taken as logits, to which the runtime applies one")
    if family is None:
        notes.append(f"family: taken as {name} by how the file decodes boxes")
    return replace(guess, family=name, notes=tuple(notes))


def _level_spec(index: int, level: HeadLevel, roles: Roles) -> LevelSpec:
    has_objectness = roles.boxes is None or roles.objectness is not None
    return LevelSpec(
        level.stride,
        boxes=f"boxes_{index}",
        objectness=f"objectness_{index}" if has_objectness else None,
        scores=f"scores_{index}",
    )


def _measure_anchors(
    tail: Tail, layout: Layout, levels: tuple[LevelSpec, ...], form: OutputForm
) -> tuple[LevelSpec, ...] | None:
    """Read anchors and grid sensitivity off the tail: a raw 0 gives the anchor, a large one the cell's far edge."""
    zero, large = (layout.read(tail.run(tail.constant(v)), tail.levels) for v in (0.0, 30.0))
    measured = []
    for level, at_zero, at_large in zip(levels, zero, large, strict=True):
        sizes = _centre_size(at_zero[..., :4].astype(np.float64), form)[..., 2:]
        typical = np.median(sizes.reshape(layout.anchors, -1, 2), axis=1)
        if not np.all(typical > 0) or np.abs(sizes - typical[:, None, None]).max() > 1e-2:
            return None
        far = _centre_size(at_large[..., :4].astype(np.float64), form)[0, 0, 0, 0] / level.stride
        scale_xy = round(float(2 * far - 1), 3)
        measured.append(replace(level, anchors_px=tuple((float(w), float(h)) for w, h in typical), scale_xy=scale_xy))
    return tuple(measured)


def _centre_size(boxes: Array, form: OutputForm) -> Array:
    pixels: Array = boxes * np.array([form.unit_hw[1], form.unit_hw[0]] * 2)
    if not form.corners:
        return pixels
    return np.concatenate([(pixels[..., :2] + pixels[..., 2:]) / 2, pixels[..., 2:] - pixels[..., :2]], axis=-1)
