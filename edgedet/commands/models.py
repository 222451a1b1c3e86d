"""``edgedet models``: the architectures that can be built from scratch, and what they cost."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Annotated, Any

import typer

from edgedet import output
from edgedet.commands.options import Json

__all__ = ["models"]

SIZE_HW = (640, 640)
CLASSES = 80


def models(
    pattern: Annotated[str, typer.Argument(help="Only names that match, such as 'yolov5*'.")] = "*",
    json: Json = False,
) -> None:
    """List the architectures that edgedet can build, with their cost at 640 px and 80 classes."""
    from edgedet.extras import require

    require("torch", extra="export", purpose="edgedet models")
    import torch

    from edgedet_models import families
    from edgedet_models.complexity import count
    from edgedet_runtime.errors import InputError

    names = tuple(f"class{i}" for i in range(CLASSES))
    variants = {name: family for name, family in families.variants().items() if fnmatch(name, pattern)}
    if not variants:
        raise InputError(f"models: expected a pattern that matches {', '.join(families.variants())}, got {pattern!r}")
    rows: list[dict[str, Any]] = []
    with output.progress_bar("building", total=len(variants)) as step:
        for variant, family in variants.items():
            with torch.device("meta"):
                cost = count(families.build(variant, names), SIZE_HW)
            rows.append(
                {
                    "name": variant,
                    "family": family,
                    "params": cost.params,
                    "gflops": round(cost.gflops, 2),
                    "macs": cost.macs,
                    "memory_access_bytes": cost.memory_access_bytes,
                }
            )
            step()
    if json:
        output.document(rows)
        return
    output.table(
        ["name", "family", "parameters", "GFLOPs", "memory access MB"],
        [
            [
                row["name"],
                row["family"],
                f"{row['params']:,}",
                f"{row['gflops']:.1f}",
                f"{row['memory_access_bytes'] / 1e6:.0f}",
            ]
            for row in rows
        ],
        numeric=["parameters", "GFLOPs", "memory access MB"],
    )
    output.note(f"At {SIZE_HW[0]}x{SIZE_HW[1]} px, {CLASSES} classes, unfused, float32.")
