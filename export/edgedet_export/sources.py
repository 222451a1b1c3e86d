"""What an export starts from: a checkpoint, an architecture's name, an ONNX file, or the user's own module."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

import edgedet_models
from edgedet_export.config import ExportConfig
from edgedet_models.detector import DetectorModule
from edgedet_models.families import load_recognized
from edgedet_runtime.errors import ArgumentError, EdgedetError, InputError, ModelFileError
from edgedet_runtime.spec import ModelSpec
from edgedet_runtime.version import __version__

__all__ = ["ModuleDetector", "Source", "load_source"]


class ModuleDetector(DetectorModule):
    """A user's own module, with the spec that the user wrote for it.

    The module takes (N, 3, H, W) in the convention of ``spec.input`` and returns the raw heads as a tuple in the order
    of ``spec.decode.output_names``, or as a dict with those names.
    """

    def __init__(self, module: nn.Module, spec: ModelSpec) -> None:
        """Wrap `module`; it is not copied."""
        super().__init__(spec)
        self.module = module

    def small_input(self) -> torch.Tensor:
        """Return an input of the spec's size: a user's module may be fixed to its own."""
        return self.dummy_input()

    def require_running(self) -> None:
        """Run once, so that a module that is fixed to another size is told from a fault of edgedet.

        Raises:
            InputError: The module's forward fails on the spec's input.
        """
        try:
            with torch.no_grad():
                self(self.dummy_input())
        except EdgedetError:
            raise
        except Exception as e:  # whatever a user's forward raises
            height, width = self.spec.input.size_hw
            said = " ".join(str(e).split())[:200] or type(e).__name__
            raise InputError(
                f"module: expected one that runs on float32 (1, 3, {height}, {width}), got {type(e).__name__}: {said};"
                " a module that is fixed to one size is exported at that size alone (spec.input, imgsz)"
            ) from e

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the raw heads in the spec's order."""
        outputs = self.module(x)
        names = self.spec.decode.output_names
        if isinstance(outputs, dict):
            missing = [n for n in names if n not in outputs]
            if missing:
                raise InputError(f"module: expected the outputs {', '.join(names)}, got {', '.join(outputs)}")
            return tuple(outputs[n] for n in names)
        outputs = (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
        if len(outputs) != len(names):
            raise InputError(f"module: expected {len(names)} outputs ({', '.join(names)}), got {len(outputs)}")
        return outputs


@dataclass(frozen=True, slots=True)
class Source:
    """A detector before export.

    Attributes:
        name: Becomes the default folder name of the bundle.
        model: A torch module, or an ONNX model with raw heads and a float32 NCHW input.
        spec: The detector's contract at its export size.
        path: File that it came from, if any.
        sha256: Hash of that file.
        trained: False where the weights are random.
        notes: What the user should know, such as an assumption about the file.
    """

    name: str
    model: DetectorModule | onnx.ModelProto
    spec: ModelSpec
    path: Path | None = None
    sha256: str | None = None
    trained: bool = True
    notes: tuple[str, ...] = ()


def load_source(source: Path | str | nn.Module | None, config: ExportConfig, spec: ModelSpec | None = None) -> Source:
    """Load whatever an export may start from, at the size and with the classes that `config` asks for.

    Args:
        source: A checkpoint or ONNX file, the name of an architecture (untrained, seeded), a module, or None for the
            built-in model.
        config: Options of the export.
        spec: Contract of a module that is no `DetectorModule`, or of an ONNX file.

    Raises:
        ModelFileError: The file cannot be read or is not understood.
        InputError: The options do not fit the model.
    """
    if isinstance(source, nn.Module):
        adjusted = _adjust(_from_module(source, spec, config), config)
        if isinstance(adjusted.model, ModuleDetector):
            adjusted.model.require_running()
        return adjusted
    if source is None:
        from edgedet_models.builtin import builtin_checkpoint

        source = builtin_checkpoint()
    path = Path(source)
    if spec is not None and path.suffix.lower() != ".onnx":
        raise ArgumentError("spec", f"it describes a module or an ONNX file, got {path}; give its ONNX file")
    if not path.exists() and str(source) in edgedet_models.variants():
        return _adjust(_untrained(str(source), config), config)
    if path.suffix.lower() == ".onnx":
        return _adjust(_from_onnx(path, config, spec), config)
    return _adjust(_from_checkpoint(path, config), config)


def _from_module(module: nn.Module, spec: ModelSpec | None, config: ExportConfig) -> Source:
    if spec is None and not isinstance(module, DetectorModule):
        raise InputError("export: a module of your own needs a ModelSpec that describes its input and outputs")
    detector = ModuleDetector(module, spec) if spec is not None else module
    assert isinstance(detector, DetectorModule), "checked above"
    if len(detector.head_choices) > 1:
        detector = copy.deepcopy(detector)  # the caller's keeps both
    detector.choose_head(config.head)
    return Source(detector.spec.variant, detector.eval(), detector.spec, notes=head_note(detector))


def _untrained(variant: str, config: ExportConfig) -> Source:
    classes = config.classes or tuple(f"class{i}" for i in range(80))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = edgedet_models.build(variant, classes)
        model.choose_head(config.head)
    note = f"{variant} is untrained (random weights, seed {config.seed}): good for latency and size, detects nothing"
    return Source(variant, model, model.spec, trained=False, notes=(note, *head_note(model)))


def _from_checkpoint(path: Path, config: ExportConfig) -> Source:
    checkpoint = edgedet_models.read_checkpoint(path)
    model, recognition = load_recognized(checkpoint, family=config.family, head=config.head)
    notes = (recognition.why, checkpoint.weights.words, *head_note(model))
    return Source(path.stem, model, model.spec, path, checkpoint.sha256, notes=notes)


def head_note(model: DetectorModule) -> tuple[str, ...]:
    """Say that the detector's candidates are not suppressed, where that is so."""
    if model.spec.decode.suppression != "none":
        return ()
    if model.spec.decode.kind == "queries":
        return (
            "a set of queries: the best pairs of query and class are the detections, no suppression; the IoU is idle",
        )
    return ("one-to-one head: the best candidates are the detections, no non-maximum suppression; the IoU is idle",)


def _from_onnx(path: Path, config: ExportConfig, spec: ModelSpec | None) -> Source:
    from edgedet_export.foreign import read_foreign, read_queries, read_with_spec

    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    if config.head is not None:
        raise ArgumentError(
            "head", f"{path} is an ONNX file, which has the head that it was exported with; leave it out"
        )
    if spec is not None:
        spec = spec if config.imgsz is None else spec.with_size(*config.imgsz)
        foreign = read_with_spec(path, spec)
    else:
        try:
            foreign = read_foreign(path, family=config.family, classes=config.classes, imgsz=config.imgsz)
        except ModelFileError as e:
            queries = read_queries(path, classes=config.classes, imgsz=config.imgsz) if config.family is None else None
            if queries is None:
                raise e from None
            foreign = queries
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(path.stem, foreign.model, foreign.spec, path, digest, notes=foreign.notes)


def _adjust(source: Source, config: ExportConfig) -> Source:
    """Apply size, class names and thresholds; refuse what does not fit."""
    spec = source.spec
    classes = config.classes or spec.classes
    if len(classes) != len(spec.classes):
        raise ArgumentError("classes", f"expected {len(spec.classes)} names, as the model has, got {len(classes)}")
    height, width = config.imgsz or spec.input.size_hw
    inclusive = spec.decode.priors is not None and spec.decode.priors.inclusive
    if config.outputs != "raw" and (spec.decode.keypoints or spec.decode.suppression == "blend" or inclusive):
        raise ArgumentError(
            "outputs",
            f"expected raw, as {spec.variant} has keypoints, merges boxes by their scores, or counts a box's last"
            f" pixel, which the other contracts cannot hold, got {config.outputs}",
        )
    own = isinstance(source.model, DetectorModule)
    stride = source.model.stride if own else max(level.stride for level in spec.decode.levels)
    if height % stride or width % stride:
        raise ArgumentError(
            "imgsz",
            f"expected multiples of the model's largest stride {stride}, got {height} {width};"
            f" the next sizes are {-(-height // stride) * stride} {-(-width // stride) * stride}",
        )
    if isinstance(source.model, onnx.ModelProto) and (height, width) != spec.input.size_hw:
        raise ArgumentError(
            "imgsz", f"the ONNX file has a fixed input of {spec.input.height} {spec.input.width}, got {height} {width}"
        )
    old = spec.thresholds
    spec = spec.with_size(height, width).replace(
        classes=classes,
        resize=dataclasses.replace(spec.resize, interpolation=config.interpolation or spec.resize.interpolation),
        thresholds=dataclasses.replace(
            old,
            conf=old.conf if config.conf is None else config.conf,
            iou=old.iou if config.iou is None else config.iou,
        ),
        tool_version=__version__,
    )
    if isinstance(source.model, DetectorModule):
        source.model.spec = spec
    return dataclasses.replace(source, spec=spec)
