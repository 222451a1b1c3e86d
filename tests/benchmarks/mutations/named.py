"""Faults that were once put in by hand and that no test noticed: each is tried on every run.

A fault is a text of one file, which must stand there exactly once, and what replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NAMED", "NamedFault"]


@dataclass(frozen=True, slots=True)
class NamedFault:
    """One of them.

    Attributes:
        room: Key of `ROOMS`.
        path: File, relative to the repository.
        old: A text that stands there once.
        new: What replaces it.
        what: The fault in words.
    """

    room: str
    path: str
    old: str
    new: str
    what: str

    @property
    def name(self) -> str:
        """A name for reports."""
        return f"{self.path} | {self.what}"


_NMS = "runtime/edgedet_runtime/nms.py"
_LETTERBOX = "runtime/edgedet_runtime/letterbox.py"
_CANDIDATES = "runtime/edgedet_runtime/candidates.py"

NAMED: tuple[NamedFault, ...] = (
    NamedFault(
        "export/parity",
        "export/edgedet_export/parity.py",
        "NOISE_FACTOR = 5.0",
        "NOISE_FACTOR = 500.0",
        "the ladder forgives a hundred times more",
    ),
    NamedFault(
        "runtime",
        _LETTERBOX,
        "pad = ((in_w - w * g) / 2, (in_h - h * g) / 2)",
        "pad = (float(origin[1]), float(origin[0]))",
        "boxes return by the integer origin instead of the exact pad",
    ),
    NamedFault(
        "runtime",
        _LETTERBOX,
        "(in_h - new_h) // 2",
        "(in_h - new_h + 1) // 2",
        "an odd row goes to the top",
    ),
    NamedFault(
        "runtime",
        _CANDIDATES,
        "np.flatnonzero(scores > np.float32(conf))",
        "np.flatnonzero(scores >= np.float32(conf))",
        "a score at the threshold passes (raw heads)",
    ),
    NamedFault(
        "runtime",
        "runtime/edgedet_runtime/decode/nms.py",
        "rows[:, 4] > np.float32(conf)",
        "rows[:, 4] >= np.float32(conf)",
        "a score at the threshold passes (final boxes)",
    ),
    NamedFault(
        "runtime",
        "runtime/edgedet_runtime/decode/decoded.py",
        "np.flatnonzero(best > np.float32(conf))",
        "np.flatnonzero(best >= np.float32(conf))",
        "a score at the threshold passes (decoded boxes)",
    ),
    NamedFault(
        "runtime",
        "runtime/edgedet_runtime/decode/decoded.py",
        "np.nonzero(scores > np.float32(conf))",
        "np.nonzero(scores >= np.float32(conf))",
        "a class at the threshold passes (decoded boxes)",
    ),
    NamedFault("runtime", _NMS, 'side="right"', 'side="left"', "the sweep's edge: reach itself is left out"),
    NamedFault("runtime", _NMS, "(1.0 - iou + _SLACK)", "(1.0 - iou - 0.01)", "the sweep misses pairs near the limit"),
    NamedFault("runtime", _NMS, "(1.0 - iou + _SLACK)", "(0.99 - iou)", "the sweep reaches 1 % less far"),
    NamedFault("runtime", _NMS, "(1.0 - iou + _SLACK)", "(1.0 - iou) * 0.99", "the sweep's reach is 1 % shorter"),
    NamedFault("runtime", _NMS, "inter > np.float32(iou)", "inter >= np.float32(iou)", "IoU at the limit suppresses"),
    NamedFault("runtime", _NMS, "> np.float32(iou)", "> np.float32(iou * 1.01)", "the limit is 1 % higher"),
    NamedFault("runtime", _NMS, "> np.float32(iou)", "> np.float32(iou * 0.99)", "the limit is 1 % lower"),
    NamedFault(
        "runtime",
        "runtime/edgedet_runtime/bundle/plan.py",
        "_EQUALLY_FAST = 1.03",
        "_EQUALLY_FAST = 1.05",
        "a plan that is 5 % slower counts as equally fast",
    ),
    NamedFault(
        "runtime",
        "runtime/edgedet_runtime/bundle/plan.py",
        "_EQUALLY_FAST = 1.03",
        "_EQUALLY_FAST = 1.0",
        "only the fastest plan counts",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/plan.py",
        "max((high - low) / 255, 1e-12)",
        "max((high - low) / 256, 1e-12)",
        "the grid's step is a 256th of the range",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/ranges.py",
        "_PERCENTILE = 99.999",
        "_PERCENTILE = 99.0",
        "the percentile cuts a hundredth",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/ranges.py",
        "_PERCENTILE = 99.999",
        "_PERCENTILE = 99.9995",
        "the percentile cuts half as much",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/number_format.py",
        'NumberFormat("uint8", 63)',
        'NumberFormat("uint8", 127)',
        "pairs of products saturate on AVX2",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/number_format.py",
        'NumberFormat("uint8", 63)',
        'NumberFormat("uint8", 31)',
        "weights for AVX2 lose a bit more",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/targets/onnxruntime_placement.py",
        "_SILU_FLOOR = -10.0",
        "_SILU_FLOOR = -5.0",
        "what SiLU still shows is cut",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/targets/onnxruntime_placement.py",
        "_SILU_FLOOR = -10.0",
        "_SILU_FLOOR = -20.0",
        "codes are spent on what SiLU makes 0",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/targets/onnxruntime_placement.py",
        "if readers == {SILU} else",
        "if SILU in readers else",
        "the floor holds for other readers too",
    ),
    NamedFault(
        "export/quantize",
        "export/edgedet_export/quantize/bias_correction.py",
        "bias + shift).astype",
        "bias).astype",
        "biases are not corrected",
    ),
)
