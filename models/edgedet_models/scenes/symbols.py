"""Symbols: random contents encoded by well-kept libraries, as matrices of modules.

zxing-cpp writes nearly all symbologies, segno the QR versions with chosen masks and levels, cv2.aruco the markers.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedet_runtime.errors import InputError, MissingDependencyError

__all__ = ["KINDS", "Symbol", "make_symbol"]

KINDS = ("qr", "datamatrix", "aztec", "pdf417", "linear", "marker")
"""Class names of the built-in detector; the index is the class id."""

_ALPHANUMERIC = string.ascii_uppercase + string.digits
_ANY = string.ascii_letters + string.digits + " -./:?=&"

_LINEAR = {
    "EAN13": 20,
    "EAN8": 5,
    "UPCA": 10,
    "UPCE": 4,
    "Code128": 20,
    "Code39": 10,
    "Code93": 4,
    "ITF": 8,
    "Codabar": 4,
    "DataBarOmni": 3,
    "DataBarStk": 1,
    "DataBarStkOmni": 2,
    "DataBarLtd": 2,
    "DataBarExp": 5,
    "DataBarExpStk": 3,
}
"""Linear symbologies of zxing-cpp and how often each is drawn."""

_ARUCO = (
    ("DICT_4X4_50", 4),
    ("DICT_5X5_100", 3),
    ("DICT_6X6_250", 3),
    ("DICT_7X7_100", 1),
    ("DICT_ARUCO_ORIGINAL", 2),
    ("DICT_APRILTAG_16h5", 2),
    ("DICT_APRILTAG_25h9", 2),
    ("DICT_APRILTAG_36h10", 1),
    ("DICT_APRILTAG_36h11", 4),
)


_SQUARE_CODEWORDS = (3, 5, 8, 12, 18, 22, 30, 36, 44, 62, 86, 114, 144, 174, 204, 280, 368, 456, 576)
"""Data codewords of the square Data Matrix versions 1 to 19, 10x10 to 88x88 (ISO/IEC 16022, table 7)."""


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """One encoded symbol.

    Attributes:
        kind: One of `KINDS`.
        symbology: Name of the symbology, such as ``Code128``.
        modules: uint8 (rows, columns), 1 where dark; without quiet zone. Linear symbols carry rows as well, of which
            the first 50 or so are alike (guard bars of EAN are longer).
        text: Content, for the human-readable line.
    """

    kind: str
    symbology: str
    modules: NDArray[np.uint8]
    text: str


def _words(rng: np.random.Generator, alphabet: str, low: int, high: int, *, skew: float = 2.5) -> str:
    # Skewed towards short contents: most codes in the world are small versions.
    length = int(low + (high - low) * rng.random() ** skew)
    return _letters(rng, alphabet, max(1, length))


def _letters(rng: np.random.Generator, alphabet: str, count: int) -> str:
    return "".join(alphabet[i] for i in rng.integers(0, len(alphabet), count))


def _digits(rng: np.random.Generator, count: int) -> str:
    return _letters(rng, string.digits, count)


def _zxing() -> Any:
    try:
        import zxingcpp
    except ImportError:
        raise MissingDependencyError("zxing-cpp", "train", "rendering scenes with codes") from None
    return zxingcpp


def _write(kind: str, symbology: str, text: str, **options: Any) -> Symbol:
    zxing = _zxing()
    barcode = zxing.create_barcode(text, getattr(zxing.BarcodeFormat, symbology), **options)
    image = np.array(zxing.write_barcode_to_image(barcode, scale=1, add_quiet_zones=False), dtype=np.uint8)
    modules = (image < 128).astype(np.uint8)
    rows, columns = np.flatnonzero(modules.any(axis=1)), np.flatnonzero(modules.any(axis=0))
    modules = modules[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Symbol(kind, symbology, modules, text)


def _qr(rng: np.random.Generator) -> Symbol:
    try:
        import segno
    except ImportError:
        raise MissingDependencyError("segno", "train", "rendering scenes with codes") from None
    micro = rng.random() < 0.12
    if micro:
        text = _digits(rng, int(rng.integers(1, 10)))
        code = segno.make_micro(text)
    else:
        text = ("https://" if rng.random() < 0.5 else "") + _words(rng, _ANY, 4, 700, skew=5)
        code = segno.make_qr(text, error=str(rng.choice(list("LMQH"))), mask=int(rng.integers(0, 8)))
    modules = np.array([[1 if value else 0 for value in row] for row in code.matrix], dtype=np.uint8)
    return Symbol("qr", "MicroQRCode" if micro else "QRCode", modules, text)


def _datamatrix(rng: np.random.Generator) -> Symbol:
    alphabet = _ANY if rng.random() < 0.5 else _ALPHANUMERIC
    if rng.random() < 0.25:
        # Left to itself, the writer takes the smallest symbol, which is a rectangle more often than not.
        return _write("datamatrix", "DataMatrix", _words(rng, alphabet, 3, 90))
    version = int(len(_SQUARE_CODEWORDS) * rng.random() ** 2)
    length = max(1, int(_SQUARE_CODEWORDS[version] * rng.uniform(0.4, 0.85)))
    return _write("datamatrix", "DataMatrix", _letters(rng, alphabet, length), version=version + 1)


def _aztec(rng: np.random.Generator) -> Symbol:
    if rng.random() < 0.06:
        return _write("aztec", "AztecRune", str(int(rng.integers(0, 256))))
    return _write("aztec", "AztecCode", _words(rng, _ANY, 3, 1000, skew=5))


def _pdf417(rng: np.random.Generator) -> Symbol:
    draw = rng.random()
    symbology = "PDF417" if draw < 0.85 else "CompactPDF417" if draw < 0.93 else "MicroPDF417"
    if symbology == "MicroPDF417":
        return _write("pdf417", symbology, _words(rng, _ANY, 4, 40))
    text = _words(rng, _ANY, 4, 500, skew=3)
    if rng.random() < 0.4:
        return _write("pdf417", symbology, text)
    # The version of a PDF417 is its number of columns; a code has 3 to 90 rows.
    least = 1 + len(text) // 60
    return _write("pdf417", symbology, text, version=least + int(rng.integers(0, 9)))


def _linear(rng: np.random.Generator) -> Symbol:
    names = list(_LINEAR)
    weights = np.array([_LINEAR[n] for n in names], dtype=float)
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    text = _LINEAR_TEXT.get(name, _default_text)(rng)
    return _write("linear", name, text)


def _default_text(rng: np.random.Generator) -> str:
    return _words(rng, _ALPHANUMERIC, 3, 18)


_LINEAR_TEXT: Mapping[str, Callable[[np.random.Generator], str]] = {
    "EAN13": lambda rng: _digits(rng, 12),
    "EAN8": lambda rng: _digits(rng, 7),
    "UPCA": lambda rng: _digits(rng, 11),
    "UPCE": lambda rng: "0" + _letters(rng, "3456789", 6),  # others cannot all be suppressed
    "Code128": lambda rng: _digits(rng, 12) if rng.random() < 0.3 else _words(rng, _ALPHANUMERIC, 4, 26),
    "ITF": lambda rng: _digits(rng, 2 * int(rng.integers(2, 9))),
    "Codabar": lambda rng: f"A{_digits(rng, int(rng.integers(4, 13)))}B",
    "DataBarOmni": lambda rng: _digits(rng, 13),
    "DataBarStk": lambda rng: _digits(rng, 13),
    "DataBarStkOmni": lambda rng: _digits(rng, 13),
    "DataBarLtd": lambda rng: "0" + _digits(rng, 12),
    "DataBarExp": lambda rng: f"[10]{_words(rng, _ALPHANUMERIC, 2, 18)}",
    "DataBarExpStk": lambda rng: f"[10]{_words(rng, _ALPHANUMERIC, 6, 18)}",
}


def _marker(rng: np.random.Generator) -> Symbol:
    import cv2

    weights = np.array([w for _, w in _ARUCO], dtype=float)
    name = _ARUCO[int(rng.choice(len(_ARUCO), p=weights / weights.sum()))][0]
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
    count = int(dictionary.bytesList.shape[0])
    number = int(rng.integers(0, count))
    side = int(dictionary.markerSize) + 2
    image = cv2.aruco.generateImageMarker(dictionary, number, side)
    return Symbol("marker", name, (np.asarray(image) < 128).astype(np.uint8), str(number))


_MAKERS: Mapping[str, Callable[[np.random.Generator], Symbol]] = {
    "qr": _qr,
    "datamatrix": _datamatrix,
    "aztec": _aztec,
    "pdf417": _pdf417,
    "linear": _linear,
    "marker": _marker,
}


def make_symbol(kind: str, rng: np.random.Generator) -> Symbol:
    """Encode random content.

    Args:
        kind: One of `KINDS`.
        rng: Source of all randomness.

    Raises:
        InputError: There is no such kind.
        MissingDependencyError: zxing-cpp or segno is not installed.
    """
    if kind not in _MAKERS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    return _MAKERS[kind](rng)
