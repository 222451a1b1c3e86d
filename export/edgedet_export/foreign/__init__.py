"""Somebody else's ONNX file becomes a raw-head network with a spec.

The way: `file_input` (what the input is) → `half` (fp16 to fp32) → `fold_constants` → `fold_into_convolutions`
(BatchNorm and the like) → `heads` (the last convolutions, by topology) → `tail` + `layout` + `interpretation_search`
(what the file does with them, found by running it; the answer is an `interpretation.Interpretation`) → `cut` →
`verify` (against the untouched file). Where a graph selects its detections, `selection` takes that off first. What is
not understood goes `from_spec`: the user's spec names the tensors, `draft` writes a spec to start from.
"""

from __future__ import annotations

from edgedet_export.foreign.detr import read_queries
from edgedet_export.foreign.draft import draft_spec
from edgedet_export.foreign.from_spec import read_with_spec
from edgedet_export.foreign.importer import ForeignModel, SpecOverrides, import_onnx, read_foreign

__all__ = [
    "ForeignModel",
    "SpecOverrides",
    "draft_spec",
    "import_onnx",
    "read_foreign",
    "read_queries",
    "read_with_spec",
]
