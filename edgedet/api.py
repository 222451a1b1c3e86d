"""Python functions of the public API that need more than one package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from torch import nn

    from edgedet_export.pipeline import ExportConfig, ExportReport
    from edgedet_models.detector import DetectorModule, HeadName
    from edgedet_runtime.engines import EngineName
    from edgedet_runtime.spec import ModelSpec
    from edgedet_runtime.steps import StepProgress

__all__ = ["export", "load"]


def load(checkpoint: str | Path, *, family: str | None = None, head: HeadName | None = None) -> DetectorModule:
    """Read a training checkpoint into a module, executing nothing of the file.

    Args:
        checkpoint: A ``.pt``, ``.pth``, ``.safetensors`` or ``.weights`` file.
        family: Name of the architecture family, where more than one fits.
        head: Which head of YOLOv10 and YOLO26 to keep, ``one-to-one`` (the default) or ``one-to-many``.

    Returns:
        The detector in float32 and evaluation mode, with the file's weights.

    Raises:
        CheckpointError: The file cannot be read safely, or is of no known family.
        MissingDependencyError: torch is not installed.
    """
    from edgedet.extras import require

    require("torch", extra="export", purpose="reading a training checkpoint")
    from edgedet_models import families
    from edgedet_models.checkpoint import read_checkpoint

    return families.load(read_checkpoint(Path(checkpoint)), family=family, head=head)


@overload
def export(
    source: Path | str | nn.Module | None = ...,
    config: ExportConfig | None = ...,
    *,
    spec: ModelSpec | None = ...,
    progress: StepProgress | None = ...,
) -> ExportReport: ...


@overload
def export(
    source: nn.Module, spec: ModelSpec, config: ExportConfig | None = ..., *, progress: StepProgress | None = ...
) -> ExportReport: ...


def export(
    source: Path | str | nn.Module | None = None,
    *values: ExportConfig | ModelSpec | None,
    config: ExportConfig | None = None,
    spec: ModelSpec | None = None,
    progress: StepProgress | None = None,
) -> ExportReport:
    """Take a detector to a verified bundle; what ``edgedet export`` does.

    Both ``export(source, config)`` and ``export(module, spec)`` are understood: the type of what follows the source
    decides.

    Args:
        source: A checkpoint or ONNX file, the name of an architecture (untrained, seeded), your own module, or None
            for the built-in model.
        values: `config`, `spec` or both, in any order.
        config: Options.
        spec: Contract of a module that is no `DetectorModule`: its input as float32 NCHW in its own convention, its
            raw outputs, its classes.
        progress: Called as progress(step, steps, description).

    Returns:
        Where the bundle is, and its manifest.

    Raises:
        EdgedetError: The source cannot be read, an option does not fit, or a check failed; nothing was written.
        MissingDependencyError: A package of the extra ``export`` is not installed.
    """
    from edgedet.extras import require

    require("torch", "onnx", extra="export", purpose="exporting a model")
    from edgedet_export.pipeline import export as run
    from edgedet_runtime.writable import require_writable

    options, contract = _config_and_spec(values, config, spec)
    if options is not None and options.out is not None:
        require_writable(options.out, argument="out")
    evaluate = None if options is None or options.data is None else _evaluator(options.data)
    return run(source, options, spec=contract, progress=progress, evaluate=evaluate)


def _config_and_spec(
    values: Iterable[object], config: ExportConfig | None, spec: ModelSpec | None
) -> tuple[ExportConfig | None, ModelSpec | None]:
    """Return the options and the contract among positional and keyword arguments.

    Raises:
        InputError: A value is neither, or one of the two is given twice.
    """
    from edgedet_export.config import ExportConfig
    from edgedet_runtime.errors import InputError
    from edgedet_runtime.spec import ModelSpec

    given = [value for value in (*values, config, spec) if value is not None]
    configs = [value for value in given if isinstance(value, ExportConfig)]
    specs = [value for value in given if isinstance(value, ModelSpec)]
    if len(configs) > 1 or len(specs) > 1 or len(configs) + len(specs) < len(given):
        kinds = ", ".join(type(value).__name__ for value in given)
        raise InputError(
            f"export: expected at most one ExportConfig and one ModelSpec after the source, got {kinds};"
            " call export(source, config), export(module, spec) or export(module, spec, config)"
        )
    return next(iter(configs), None), next(iter(specs), None)


def _evaluator(data: Path) -> Callable[[Path, EngineName], float]:
    """Return a function that gives the AP (0..1) of a model file on labelled pictures, run on an engine."""
    from edgedet.evaluation import evaluate_file
    from edgedet_runtime.labelled import load_dataset

    dataset = load_dataset(data)

    def evaluate(model: Path, engine: EngineName) -> float:
        return evaluate_file(model, dataset, engine=engine, trial="never").figures.ap or 0.0

    return evaluate
