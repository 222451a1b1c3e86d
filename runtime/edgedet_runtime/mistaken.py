"""What a file is that was given in place of a model: a Git LFS pointer, a web page, a model of another kind."""

from __future__ import annotations

from pathlib import Path

__all__ = ["HEAD_BYTES", "mistaken_file", "what_it_is"]

HEAD_BYTES = 256
_BOM = b"\xef\xbb\xbf"


def what_it_is(head: bytes) -> str | None:
    """Name a file that is often given in place of a model.

    Args:
        head: Its first `HEAD_BYTES` bytes.

    Returns:
        Such as ``a web page (the download failed)``; None for a file that starts as a zip, a pickle or an ONNX file.
    """
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run git lfs pull)"
    text = head.removeprefix(_BOM).lstrip()
    if text[:1] == b"<":
        is_page = any(mark in text[:HEAD_BYTES].lower() for mark in (b"<!doctype html", b"<html", b"<head"))
        return "a web page (the download failed)" if is_page else "an XML file"
    if head.startswith((b"\x80", b"\x08", b"PK")):
        return None
    if text[:1] in (b"{", b"["):
        return "a JSON text"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, as Keras writes"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    printable = all(c >= 32 or c in b"\t\r\n" for c in head)
    return "a text file" if printable else None


def mistaken_file(path: Path) -> str | None:
    """Say what a file is in place of an ONNX file; None where it may be one, or cannot be read.

    Args:
        path: The file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None
    if head.startswith(b"PK"):
        return "a zip file, as torch.save writes (give a checkpoint a name that ends in .pt)"
    if head.startswith(b"\x80"):
        return "a pickle, as old versions of torch.save write (give a checkpoint a name that ends in .pt)"
    return what_it_is(head)
