"""Darknet: arithmetic against plain loops, refusals that name a line, darknet's own outputs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgedet_models.checkpoint.darknet import read_darknet
from edgedet_models.darknet.blocks import MaxPool, Reorg, Shortcut
from edgedet_models.decode import decode
from edgedet_models.detector import DetectorModule
from edgedet_models.families import darknet
from edgedet_runtime.errors import CheckpointError
from tests.models.family_template import (
    COCO,
    assert_detections,
    assert_raw,
    decoded_rows,
    fixture_folder,
    run,
    worst_relative,
)

NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters={0}\nsize=3\nstride={1}\npad=1\nactivation=leaky\n"
TRUNK = NET + "".join(CONV.format(4, 2) for _ in range(4))
HEAD = "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n"
YOLO = "[yolo]\nmask=1,2\nanchors=5,6, 7,8, 9,10\nclasses=2\nnum=3\nscale_x_y=1.1\n"
FLOATS = 4 * 27 + 16 + 3 * (4 * 36 + 16) + 14 * 5


def write(
    folder: Path, cfg: str, floats: int, *, header: bytes = struct.pack("<3iQ", 0, 2, 5, 64), seed: int = 0
) -> Path:
    """Write a pair of files with random positive weights (as variances are); return the weights' path."""
    (folder / "net.cfg").write_text(cfg)
    values = np.random.default_rng(seed).uniform(0.1, 1.0, floats).astype("<f4")
    path = folder / "net.weights"
    path.write_bytes(header + values.tobytes())
    return path


def load(folder: Path, cfg: str, floats: int) -> DetectorModule:
    return darknet.load(read_darknet(write(folder, cfg, floats)))


@pytest.mark.parametrize(("variant", "parameters"), [("yolov3-tiny", 8_852_366), ("yolov4-tiny", 6_056_606)])
def test_parameter_count(variant: str, parameters: int) -> None:
    """The file's floats (8,858,734 and 6,062,814) less two running statistics per channel."""
    with torch.device("meta"):
        assert darknet.VARIANTS[variant](COCO).num_parameters == parameters


@pytest.mark.parametrize("size", [(4, 6), (5, 7)], ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(2, 2, 1), (2, 1, 1), (3, 1, 2), (3, 2, 2), (4, 2, 3), (5, 1, 4), (2, 2, 0)],
)
def test_maxpool_is_darknets(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size)
    rows, columns = ((n + padding - kernel) // stride + 1 for n in size)
    expected = torch.empty(1, 2, rows, columns)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride - padding // 2, column * stride - padding // 2
            window = x[..., max(0, top) : top + kernel, max(0, left) : left + kernel]
            expected[..., row, column] = window.amax((-2, -1))
    assert MaxPool.supports(kernel, stride, padding)
    assert torch.equal(MaxPool(kernel, stride, padding)(x), expected)


def test_reorg_is_darknets() -> None:
    c, h, w, s = 8, 4, 6, 2
    x = torch.randn(1, c, h, w)
    flat, out = x.flatten(), torch.empty(c * h * w)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                offset, channel = divmod(k, c // s**2)
                column, row = i * s + offset % s, j * s + offset // s
                out[i + w * (j + h * k)] = flat[column + w * s * (row + h * s * channel)]
    assert torch.equal(Reorg(s)(x), out.reshape(1, c * s**2, h // s, w // s))


def test_sections_work_together(tmp_path: Path) -> None:
    """A grouped route, a shortcut, a gate and an upsampling equal the same operations by hand."""
    cfg = (
        TRUNK
        + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"
        + "[convolutional]\nfilters=4\nsize=1\ngroups=2\nactivation=mish\n"
        + "[shortcut]\nfrom=-3\nactivation=linear\n"
        + "[avgpool]\n"
        + "[convolutional]\nfilters=4\nsize=1\nactivation=logistic\n"
        + "[scale_channels]\nfrom=-3\n"
        + "[upsample]\nstride=2\n"
        + "[route]\nlayers=-1, 2\n"
        + HEAD
        + YOLO
    )
    detector = load(tmp_path, cfg, FLOATS - 70 + 4 * 1 + 4 + 4 * 4 + 4 + 14 * 9)
    layers: Any = detector.get_submodule("layers")
    x = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        trunk = [x]
        for layer in layers[:4]:
            trunk.append(layer(trunk[-1]))
        summed = layers[5](trunk[4][:, 2:]) + trunk[4]
        gated = summed * layers[8](summed.mean((2, 3), keepdim=True))
        up = gated.repeat_interleave(2, -1).repeat_interleave(2, -2)
        joined = torch.cat((up, trunk[3]), 1)
        boxes, objectness, scores = detector(x)
        head = layers[12]
        torch.testing.assert_close(boxes, head.boxes(joined))
        torch.testing.assert_close(scores, head.scores(joined))
    assert objectness.shape == (2, 2, 4, 8)
    assert [lv.stride for lv in detector.spec.decode.levels] == [8]
    assert detector.stride == 16
    assert detector.spec.decode.levels[0].anchors_px == ((7, 8), (9, 10))


def test_shortcut_between_unequal_layers_adds_the_first_channels() -> None:
    x, narrow, wide = torch.randn(1, 4, 2, 2), torch.randn(1, 3, 2, 2), torch.randn(1, 5, 2, 2)
    expected = x + wide[:, :4]
    expected[:, :3] += narrow
    torch.testing.assert_close(Shortcut("relu")(x, narrow, wide), expected.relu())


def test_new_coords_leaves_the_sigmoid_to_the_decoder(tmp_path: Path) -> None:
    cfg = TRUNK + HEAD.replace("linear", "logistic") + YOLO + "new_coords=1\n"
    detector = load(tmp_path, cfg, FLOATS)
    plain = load(tmp_path, TRUNK + HEAD + YOLO, FLOATS)
    x = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        raw = detector(x)
        assert all(torch.equal(a, b) for a, b in zip(raw, plain(x), strict=True))
        boxes, _ = decode(detector.spec, raw)
        t = raw[0].reshape(1, 2, 4, 2, 4).sigmoid()
        size = (t[:, :, 2:] * 2) ** 2 * torch.tensor([[7, 8], [9, 10]]).reshape(1, 2, 2, 1, 1)
    assert detector.spec.decode.wh == "square"
    got = (boxes[..., 2:] - boxes[..., :2]).reshape(1, 2, 2, 4, 2).permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(got, size)


def test_region_scores_are_a_softmax(tmp_path: Path) -> None:
    region = "[region]\nanchors=0.5,0.6, 2,3\nclasses=2\ncoords=4\nnum=2\nsoftmax=1\n"
    detector = load(tmp_path, TRUNK + HEAD + region, FLOATS)
    x = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        raw = detector(x)
        _, scores = decode(detector.spec, raw)
        layers: Any = detector.get_submodule("layers")
        for layer in layers[:4]:
            x = layer(x)
        logits = layers[4].scores(x).reshape(1, 2, 2, 2, 4)
        expected = logits.softmax(2) * raw[1].sigmoid().unsqueeze(2)
    torch.testing.assert_close(scores, expected.permute(0, 1, 3, 4, 2).reshape(1, -1, 2), atol=1e-6, rtol=1e-5)
    assert detector.spec.decode.levels[0].anchors_px == ((8.0, 9.6), (32, 48))


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ("[convolutional]\n", "expected a darknet cfg that begins with [net], got [convolutional]"),
        ("nonsense\n", "line 1: expected [section] or key=value"),
        (NET + "[Gaussian_yolo]\n", "line 5, [gaussian_yolo]: this section is not supported"),
        (TRUNK + "[maxpool]\nsize=4\nstride=3\n", "line 34, [maxpool]: size=4 stride=3"),
        (TRUNK + "[route]\nlayers=7\n", "line 34, [route]: layers: expected earlier layers, 0..3, got 7"),
        (TRUNK + "[route]\nlayers=-1,0\n", "line 34, [route]: layers: expected layers of one size"),
        (TRUNK + "[shortcut]\nfrom=0\n", "line 34, [shortcut]: from: expected layers of one size"),
        (
            TRUNK + "[shortcut]\nfrom=-1\nweights_type=per_channel\n",
            "line 35, [shortcut]: weights_type=per_ch",
        ),
        (
            TRUNK + "[convolutional]\nactivation=plse\n",
            "line 34, [convolutional]: activation: expected one of",
        ),
        (TRUNK + HEAD + YOLO.replace("1.1", "nan"), "line 42, [yolo]: scale_x_y: expected numbers, got 'nan'"),
        (TRUNK + "[convolutional]\nfilters=x\n", "line 34, [convolutional]: filters: expected whole numbers"),
        (
            TRUNK + HEAD + YOLO.replace("classes=2", "classes=3"),
            "line 34, [convolutional]: filters: expected 16",
        ),
        (TRUNK + HEAD + YOLO.replace("mask=1,2", "mask=1,3"), "line 38, [yolo]: mask: expected numbers of 3"),
        (TRUNK + HEAD + YOLO + "new_coords=1\n", "line 36, [convolutional]: activation: expected logistic"),
        (TRUNK, "expected a detector with [yolo] or [region] layers, got none"),
    ],
)
def test_unsupported_cfg_is_refused_with_its_line(tmp_path: Path, cfg: str, words: str) -> None:
    checkpoint = read_darknet(write(tmp_path, cfg, FLOATS))
    with pytest.raises(CheckpointError) as caught:
        darknet.load(checkpoint)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("floats", "words"),
    [
        (FLOATS + 1, f"expected {FLOATS} floats"),
        (FLOATS - 1, "which end in line 33, [convolutional]"),
        (20, "which end in line 5, [convolutional]"),
    ],
)
def test_weights_of_another_length_are_refused(tmp_path: Path, floats: int, words: str) -> None:
    checkpoint = read_darknet(write(tmp_path, TRUNK + HEAD + YOLO, floats))
    with pytest.raises(CheckpointError, match="expected") as caught:
        darknet.load(checkpoint)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seen"),
    [(struct.pack("<3iI", 0, 1, 0, 7), 7), (struct.pack("<3iQ", 0, 2, 0, 1 << 40), 1 << 40)],
)
def test_both_header_versions(tmp_path: Path, header: bytes, seen: int) -> None:
    checkpoint = read_darknet(write(tmp_path, TRUNK + HEAD + YOLO, FLOATS, header=header))
    assert checkpoint.content["header"]["seen"] == seen
    assert checkpoint.content["weights"].numel() == FLOATS
    darknet.load(checkpoint)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"short", "got 5 bytes, less than its header"),
        (struct.pack("<3iQ", 0, 2, 5, 0) + b"\0" * 7, "truncated or damaged"),
        (b"PK\3\4" * 8, "expected a darknet weights file of version 0.x"),
    ],
)
def test_other_files_are_not_weights(tmp_path: Path, data: bytes, words: str) -> None:
    path = write(tmp_path, TRUNK + HEAD + YOLO, 0)
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_darknet(path)
    assert words in str(caught.value)


def test_companion_files(tmp_path: Path) -> None:
    weights = write(tmp_path, TRUNK + HEAD + YOLO, FLOATS)
    weights = weights.rename(tmp_path / "net_best.weights")
    (tmp_path / "other.cfg").write_text("[net]\n")
    (tmp_path / "net.names").write_text("cat\ndog\n")
    recognition = darknet.recognise(read_darknet(weights))
    assert recognition is not None
    assert recognition.classes == ("cat", "dog")
    assert darknet.recognise(read_darknet(tmp_path / "net.cfg")) is not None
    (tmp_path / "net.names").write_text("cat\n")
    with pytest.raises(CheckpointError, match="expected 2 class names"):
        darknet.load(read_darknet(weights))
    (tmp_path / "net.cfg").unlink()
    (tmp_path / "third.cfg").write_text("[net]\n")
    with pytest.raises(CheckpointError, match=r"expected its \.cfg beside it"):
        read_darknet(weights)


def _darknets_order(array: NDArray[np.float32], anchors: int, sizes: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Reorder candidates from level, anchor, row, column to level, row, column, anchor."""
    levels, start = [], 0
    for h, w in sizes:
        part = array[:, start : start + anchors * h * w]
        start += anchors * h * w
        shaped = part.reshape(len(array), anchors, h, w, -1).transpose(0, 2, 3, 1, 4)
        levels.append(shaped.reshape(len(array), anchors * h * w, -1))
    return np.concatenate(levels, axis=1)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("darknet-yolov3-tiny-quarter-nc3", 546_932), ("darknet-yolov4-tiny-half", 1_565_262)],
)
def test_darknets_own_outputs(name: str, parameters: int) -> None:
    folder = fixture_folder(name)
    detector = darknet.load(read_darknet(folder / "checkpoint.weights"))
    assert detector.num_parameters == parameters
    assert detector.spec.classes[:2] == ("person", "bicycle")
    reference = np.load(folder / "reference.npz")
    outputs = run(detector, reference["input"])
    classes = len(detector.spec.classes)
    sizes = []
    for i in range(2):
        raw = reference[f"raw_{i}_eps1e5"]
        n, _, h, w = raw.shape
        sizes.append((h, w))
        raw = raw.reshape(n, 3, 5 + classes, h, w)
        assert_raw(
            outputs,
            {
                f"boxes_{i}": raw[:, :, :4].reshape(n, -1, h, w),
                f"objectness_{i}": raw[:, :, 4],
                f"scores_{i}": raw[:, :, 5:].reshape(n, -1, h, w),
            },
        )
    boxes, scores = (_darknets_order(a, 3, sizes) for a in decoded_rows(detector, outputs))
    expected = reference["decoded_darknet"]
    height, width = detector.spec.input.size_hw
    assert worst_relative(boxes, expected[..., :4] * np.array([width, height, width, height])) <= 1e-4
    assert worst_relative(scores, expected[..., 5:]) <= 1e-4
    assert_detections(folder, detector, outputs)
