"""The docs' table of families, made of what the code says.

``python -m edgedet.family_table > docs/families.md``
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedet_runtime.spec import DecodeSpec

__all__ = ["FamilyRow", "family_rows", "to_markdown"]

HEADER = """# Families

What `edgedet export` reads and `edgedet models` builds. Every family goes to onnxruntime, OpenVINO and OpenCV's `dnn`
from the same raw heads; `edgedet inspect FILE` says what a file is. A head's kind is how its raw outputs become boxes
(`edgedet_runtime.spec.DecodeSpec`); "no NMS" marks heads whose best candidates are the detections. The license class is
that of weights made with the official code; a file that names its own keeps it.

"""


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One family.

    Attributes:
        name: Registry name.
        what: First sentence of the family's own description.
        forms: What its checkpoints hold.
        heads: Kinds of its heads, such as ``dfl, cls``.
        networks: Names that can be built.
        licence: License class of official weights.
    """

    name: str
    what: str
    forms: tuple[str, ...]
    heads: tuple[str, ...]
    networks: tuple[str, ...]
    licence: str


def family_rows() -> list[FamilyRow]:
    """Return one row per family, in the order of the registry; builds every network without weights."""
    import torch

    from edgedet_models import families

    rows = []
    for name in families.FAMILIES:
        family = families.get_family(name)
        heads: list[str] = []
        with torch.device("meta"):
            for build in family.VARIANTS.values():
                model = build(("a", "b"))
                choices = model.head_choices
                heads.append(_describe(model.spec.decode))
                if len(choices) > 1:
                    model.choose_head(choices[1])
                    heads.append(_describe(model.spec.decode))
        paragraph = (family.__doc__ or "").strip().partition("\n\n")[0]
        what = re.split(r"[.?](?:\s|$)", paragraph, maxsplit=1)[0]
        forms = tuple(getattr(family, "FORMS", ("state dict",)))
        unique = tuple(dict.fromkeys(heads)) or tuple(getattr(family, "HEADS", ()))
        rows.append(FamilyRow(name, " ".join(what.split()), forms, unique, tuple(family.VARIANTS), family.LICENCE))
    return rows


def _describe(decode: DecodeSpec) -> str:
    suffix = ", no NMS" if decode.suppression == "none" else ""
    return f"{decode.kind} ({decode.score}{suffix})"


def to_markdown(rows: Sequence[FamilyRow]) -> str:
    """Return the page of the docs."""
    lines = [
        "| family | what | read from | heads (score) | networks to build | license class |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        more = ", …" if len(row.networks) > 4 else ""
        shown = f"{', '.join(row.networks[:4])}{more} ({len(row.networks)})" if row.networks else "none"
        cells = (row.name, row.what, ", ".join(row.forms), ", ".join(row.heads), shown, row.licence)
        lines.append(f"| {' | '.join(cells)} |")
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(to_markdown(family_rows()))
