"""A zoo for latency: architectures as they are built from scratch, exported and quantized, untrained.

Which backbone is fast on a CPU needs no training to answer, only every variant in the form in which it would run. Each
becomes a bundle like any other, but for two things that an untrained network cannot have: its INT8 files are placed
without a search (see `edgedet_export.quantize.quantize_unjudged`), and its detections mean nothing. Bundles are kept
and used again, so that a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from edgedet_runtime.errors import CheckFailedError, InputError, ModelFileError

__all__ = ["DEFAULT_FOLDER", "DEFAULT_SIZE_HW", "build_zoo", "is_built", "match_variants"]

DEFAULT_FOLDER = Path("build/zoo")
DEFAULT_SIZE_HW = (640, 640)
"""The size at which ``edgedet models`` counts."""


def match_variants(patterns: Sequence[str]) -> list[str]:
    """Return the variants that glob patterns match, each once, in the order of the patterns and then of the registry.

    Raises:
        InputError: A pattern matches nothing.
    """
    from edgedet_models import families

    known = list(families.variants())
    found: list[str] = []
    for pattern in patterns:
        matched = [name for name in known if fnmatchcase(name, pattern)]
        if not matched:
            raise InputError(f"--zoo: expected a pattern that matches {', '.join(known)}, got {pattern!r}")
        found += matched
    return list(dict.fromkeys(found))


def build_zoo(
    variants: Sequence[str],
    size_hw: tuple[int, int],
    out: Path,
    *,
    progress: Callable[[int, int, str], object],
    built: Callable[[str], object],
) -> list[Path]:
    """Make a bundle of each variant, FP32 and INT8 for both engines, or take the one that is there.

    Args:
        variants: Names from `match_variants`.
        size_hw: Input rows and columns.
        out: Work folder; bundles are ``<out>/<columns>x<rows>/<variant>``.
        progress: Called with variants done, variants in all, and what is being done.
        built: Told in one line of each variant that is ready.

    Returns:
        The bundles, in the order of the variants.

    Raises:
        InputError: The size does not fit a variant, or the folder cannot be written.
        CheckFailedError: A variant fails its checks; those before it stay.
    """
    from edgedet.api import export
    from edgedet_export.config import ExportConfig

    folders: list[Path] = []
    for number, variant in enumerate(variants):
        folder = out / f"{size_hw[1]}x{size_hw[0]}" / variant
        folders.append(folder)
        place = f"{number + 1} of {len(variants)}"
        if is_built(folder, variant, size_hw):
            built(f"{variant} ({place}): {folder} is there already")
            continue

        def tell(_done: int, _of: int, what: str, *, at: int = number, name: str = variant) -> None:
            progress(at, len(variants), f"{name}: {what}")

        start = time.monotonic()
        try:
            export(variant, ExportConfig(out=folder, imgsz=size_hw, int8=True, search=False), progress=tell)
        except (CheckFailedError, InputError) as e:
            kind = CheckFailedError if isinstance(e, CheckFailedError) else InputError
            raise kind(f"{variant} at {size_hw[1]}x{size_hw[0]}: {e}") from e
        built(f"{variant} ({place}): built in {time.monotonic() - start:.0f} s")
    return folders


def is_built(folder: Path, variant: str, size_hw: tuple[int, int]) -> bool:
    """Return whether a bundle is what would be built: same variant, size, version and kind of CPU, and whole."""
    from edgedet_export.quantize.number_format import this_cpu
    from edgedet_runtime.bundle.manifest import read_manifest, verify_bundle
    from edgedet_runtime.version import __version__

    try:
        manifest = read_manifest(folder)
    except ModelFileError:  # none, or one that cannot be read: build it anew
        return False
    size = None if manifest.spec is None else manifest.spec.input.size_hw
    facts = manifest.name, size, manifest.edgedet, manifest.trained
    cpus = {file.cpu for file in manifest.files if file.precision == "int8"}
    return facts == (variant, size_hw, __version__, False) and cpus == {this_cpu()} and not verify_bundle(folder)
