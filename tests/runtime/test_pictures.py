"""One reader of pictures and one rule: a picture is read whole or not at all, and its bytes say what it is."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet_runtime.errors import InputError
from edgedet_runtime.pictures import decode_image, list_folder, looks_like_picture, read_image
from tests.runtime.tiny_models import random_image

FORMATS = (".bmp", ".jpg", ".png", ".ppm", ".tiff", ".webp")


def encoded(suffix: str, height: int = 48, width: int = 64) -> bytes:
    done, data = cv2.imencode(suffix, random_image(height, width))
    assert done
    return bytes(data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_picture_is_known_by_its_bytes_not_by_its_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(encoded(suffix))
    assert looks_like_picture(path)
    assert read_image(path).shape == (48, 64, 3)


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_picture_without_its_end_is_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    data = encoded(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=f"cut{suffix}: expected an image, it is a damaged") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_jpeg_without_its_last_bytes_is_refused() -> None:
    data = encoded(".jpg")
    assert decode_image(data, "whole").shape == (48, 64, 3)
    with pytest.raises(InputError, match="damaged JPEG"):
        decode_image(data[:-200], "cut")


def test_a_png_whose_checksum_does_not_match_is_refused() -> None:
    data = bytearray(encoded(".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(InputError, match="damaged PNG"):
        decode_image(bytes(data), "flipped")


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(("width", "height"), [(1 << 16, 1 << 15), (1 << 20, 1 << 20), (9000, 9000), (0, 5)])
def test_a_small_file_cannot_claim_a_huge_picture(width: int, height: int) -> None:
    """2^31 pixels, 2^40 pixels, 81 million in 33 bytes, and none."""
    with pytest.raises(InputError, match=f"{width}x{height} pixels"):
        decode_image(png_header(width, height), "bomb")


def test_what_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, words in (
        ("text.jpg", "it is something else"),
        ("empty.png", "it is empty"),
        ("pipe.jpg", "no regular file"),
        ("absent.jpg", r"cannot be read \(No such file or directory\)$"),
        ("null\0.jpg", r"cannot be read \(embedded null"),
    ):
        with pytest.raises(InputError, match=words):
            read_image(tmp_path / name)


def test_folder_listing_tells_pictures_from_the_rest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, data in (
        ("b", encoded(".png")),
        ("a.jpg", encoded(".jpg")),
        ("damaged.png", b"x"),
        ("notes.txt", b"hello"),
        (".hidden.jpg", encoded(".jpg")),
        ("sub/c.jpg", encoded(".jpg")),
    ):
        (tmp_path / name).write_bytes(data)
    found = list_folder(tmp_path)
    assert [p.name for p in found.pictures] == ["a.jpg", "b", "damaged.png"]
    assert [p.name for p in found.others] == ["notes.txt"]
    assert [p.name for p in list_folder(tmp_path, recursive=True).pictures] == ["a.jpg", "b", "damaged.png", "c.jpg"]


def test_pixels_are_those_of_opencv(tmp_path: Path) -> None:
    data = encoded(".jpg")
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize(
    ("width", "height", "size", "words"),
    [
        (0, 5, 33, "0x5 pixels"),
        (5, 0, 33, "5x0 pixels"),
        (1, 1, 33, "its end is missing"),
        (1 << 13, 1 << 13, 33, "its end is missing"),
        (1 << 13, (1 << 13) + 1, 33, "8192x8193 pixels in 33 bytes, which no camera writes"),
        (20_000, 10_000, 1_000_000, "a checksum does not match"),
        (20_000, 10_000, 999_999, "20000x10000 pixels in 999999 bytes"),
        (1 << 15, 1 << 15, 6_000_000, "a checksum does not match"),
        (1 << 15, (1 << 15) + 1, 6_000_000, "more than 2^30"),
    ],
)
def test_how_many_pixels_a_file_may_claim(width: int, height: int, size: int, words: str) -> None:
    """2^26 always, a byte for 200 beyond that, 2^30 at most; what may be is then looked at, and found damaged."""
    with pytest.raises(InputError) as caught:
        decode_image(png_header(width, height).ljust(size, b"\0"), "x.png")
    assert words in str(caught.value)


def test_a_file_of_more_than_a_gigabyte_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InputError, match="at most 1 GiB, it is larger"):
        read_image(tmp_path / "huge.png")
    data = encoded(".png")
    (tmp_path / "a.png").write_bytes(data)
    monkeypatch.setattr("edgedet_runtime.pictures._MOST_BYTES", len(data))
    assert read_image(tmp_path / "a.png").shape == (48, 64, 3)
    (tmp_path / "a.png").write_bytes(data + b"\0")
    with pytest.raises(InputError, match="it is larger"):
        read_image(tmp_path / "a.png")


def test_half_the_width_and_height() -> None:
    data = encoded(".jpg")
    half = decode_image(data, "a.jpg", half=True)
    assert half.shape == (24, 32, 3)
    whole = cv2.resize(decode_image(data, "a.jpg"), (32, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(int) - whole).mean() < 15


def test_what_is_not_there_looks_like_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello")
    assert not any(looks_like_picture(tmp_path / name) for name in ("pipe", "text", "absent", ".", "null\0"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: cannot be read \(No such file"):
        list_folder(tmp_path / "gone")


def test_what_no_decoder_reads_is_damaged() -> None:
    for data in (b"P6\n4 4\n255\nabc", b"GIF89a" + struct.pack("<HH", 4, 4) + b"\xf7\0\0"):
        with pytest.raises(InputError, match=r"x: expected an image, it is a damaged (PNM|GIF)$"):
            decode_image(data, "x")
