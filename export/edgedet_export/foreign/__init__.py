"""Somebody else's ONNX file becomes a raw-head network with a spec.

The way: `file_input` (what the input is) → `half` (fp16 to fp32) → `fold_constants` → `fold_into_convolutions`
(BatchNorm and the like) → `heads` (the last convolutions, by topology) → `tail` + `layout` + `interpretation_search`
(what the file does with them, found by running it; the answer is an `interpretation.Interpretation`) → `cut` →
`verify` (against the untouched file).
"""

from __future__ import annotations

from edgedet_export.foreign.importer import ForeignModel, SpecOverrides, import_onnx, read_foreign

__all__ = ["ForeignModel", "SpecOverrides", "import_onnx", "read_foreign"]
