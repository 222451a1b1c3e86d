"""The parts of a head of queries against plain loops and torch's own layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedet_models.detr.attention import SelfAttention
from edgedet_models.detr.decoder import RefiningDecoder
from edgedet_models.detr.deformable import DeformableAttention
from edgedet_models.detr.encoder import EncoderLayer, OverMap
from edgedet_models.detr.geometry import cell_boxes, inverse_sigmoid, sincos_positions
from edgedet_models.detr.query_head import QueryHead, StoredAnchors, projection
from edgedet_models.detr.shape import QueryShape
from edgedet_runtime.errors import CheckpointError

SHAPE = QueryShape(hidden=16, heads=2, points=(3, 2), layers=2, ffn=24, queries=10, classes=3)
SIZES = ((4, 6), (2, 3))


def seeded(seed: int = 0) -> None:
    torch.manual_seed(seed)


def test_attention_is_torchs_own() -> None:
    seeded()
    own, reference = SelfAttention(12, 3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    nn.init.normal_(reference.in_proj_bias)
    own.load_state_dict(reference.state_dict())
    x, positions = torch.randn(2, 2, 7, 12, dtype=torch.float64)
    expected = reference(x + positions, x + positions, x, need_weights=False)[0]
    torch.testing.assert_close(own(x, positions), expected)


def bilinear(level: Tensor, x: float, y: float) -> Tensor:
    """Sample (C, h, w) at a fraction of its width and height, zero outside; pixel centers are at (i + 0.5) / size."""
    channels, h, w = level.shape
    col, row = x * w - 0.5, y * h - 0.5
    total = torch.zeros(channels, dtype=level.dtype)
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(col), math.floor(col) + 1):
            if 0 <= i < h and 0 <= j < w:
                total += level[:, i, j] * (1 - abs(row - i)) * (1 - abs(col - j))
    return total


@pytest.mark.parametrize("projections", [False, True])
def test_deformable_attention_is_the_formula(projections: bool) -> None:
    seeded()
    layer = DeformableAttention(16, 2, (3, 2), projections=projections).double()
    query, memory = torch.randn(2, 5, 16, dtype=torch.float64), torch.randn(2, 30, 16, dtype=torch.float64)
    boxes = torch.rand(2, 5, 4, dtype=torch.float64)
    got = layer(query, boxes, memory, SIZES)
    value = memory if layer.value_proj is None else layer.value_proj(memory)
    offsets = layer.sampling_offsets(query).reshape(2, 5, 2, 5, 2)
    weights = layer.attention_weights(query).reshape(2, 5, 2, 5).softmax(-1)
    for n in range(2):
        levels = [part.T.reshape(16, h, w) for part, (h, w) in zip(value[n].split([24, 6]), SIZES, strict=True)]
        for q in range(5):
            rows = []
            for head in range(2):
                cx, cy, w, h = boxes[n, q].tolist()
                row = torch.zeros(8, dtype=torch.float64)
                for p in range(5):
                    level, count = (0, 3) if p < 3 else (1, 2)
                    dx, dy = offsets[n, q, head, p].tolist()
                    place = cx + dx / count * w * 0.5, cy + dy / count * h * 0.5
                    row += weights[n, q, head, p] * bilinear(levels[level][head * 8 : head * 8 + 8], *place)
                rows.append(row)
            expected = torch.cat(rows)
            if layer.output_proj is not None:
                expected = layer.output_proj(expected)
            torch.testing.assert_close(got[n, q], expected)


def test_boxes_of_cells() -> None:
    logits, counts = cell_boxes(((100, 2), (1, 1)), torch.zeros(1, dtype=torch.float64))
    assert logits.shape == (1, 201, 4)
    boxes = logits.sigmoid()[0].numpy()
    np.testing.assert_allclose(boxes[7], [0.75, 0.035, 0.05, 0.05])
    np.testing.assert_allclose(boxes[200], [0.5, 0.5, 0.1, 0.1])
    assert counts[0, :, 0].tolist() == [False] * 2 + [True] * 196 + [False] * 2 + [True]
    assert torch.isinf(logits[0, 0]).all()


def test_positions_are_the_official_ones() -> None:
    """Index w * height + h holds the sines of w, then its cosines, then those of h, whatever the map's shape."""
    table = sincos_positions(2, 5, 12, torch.zeros(1, dtype=torch.float64))[0]
    for w in range(5):
        for h in range(2):
            powers = [10_000 ** -(k / 3) for k in range(3)]
            expected = [f(v * p) for v in (w, h) for f in (math.sin, math.cos) for p in powers]
            np.testing.assert_allclose(table[w * 2 + h], expected, atol=1e-12)


def test_inverse_sigmoid_keeps_away_from_the_ends() -> None:
    x = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5], dtype=torch.float64)
    expected = [math.log(1e-5), math.log(1e-5), math.log(0.25 / 0.75), -math.log(1e-5), -math.log(1e-5)]
    np.testing.assert_allclose(inverse_sigmoid(x), expected)


@pytest.mark.parametrize("before", [False, True])
def test_encoder_layer_is_torchs_own(before: bool) -> None:
    seeded()
    own = EncoderLayer(16, 2, 24, normalize_before=before).double()
    reference = nn.TransformerEncoderLayer(
        16, 2, 24, dropout=0, activation="gelu", batch_first=True, norm_first=before, dtype=torch.float64
    )
    reference.load_state_dict(own.state_dict())
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(own(x, torch.zeros(1, 9, 16, dtype=torch.float64)), reference.eval()(x))


def test_a_map_is_listed_row_by_row() -> None:
    class Show(nn.Module):
        def forward(self, x: Tensor, positions: Tensor) -> Tensor:
            return x + positions

    x = torch.randn(1, 8, 2, 3)
    got = OverMap([Show()])(x)
    torch.testing.assert_close(got[0, :, 1, 0], x[0, :, 1, 0] + sincos_positions(2, 3, 8, x)[0, 3])


def make_head(shape: QueryShape = SHAPE, levels: int = 2) -> QueryHead:
    seeded()
    head = QueryHead(shape, [projection(5, shape.hidden) for _ in range(levels)], RefiningDecoder(shape))
    return head.eval()


def features() -> list[Tensor]:
    seeded(1)
    return [torch.randn(2, 5, h, w) for h, w in SIZES]


def test_the_best_cells_become_queries() -> None:
    head = make_head()
    seen: dict[str, Tensor] = {}

    class Keep(nn.Module):
        def forward(self, content: Tensor, logits: Tensor, memory: Tensor, sizes: object) -> tuple[Tensor, Tensor]:
            seen.update(content=content, logits=logits, memory=memory)
            return logits, content

    head.refine = Keep()
    head(features())
    memory = torch.cat([p(f).flatten(2).transpose(1, 2) for p, f in zip(head.input_proj, features(), strict=True)], 1)
    torch.testing.assert_close(seen["memory"], memory)
    known = head.enc_output(memory)
    order = head.enc_score_head(known).max(-1).values.argsort(dim=1, descending=True)[:, :10]
    anchors, _ = cell_boxes(SIZES, memory)
    for n in range(2):
        torch.testing.assert_close(seen["content"][n], known[n, order[n]])
        torch.testing.assert_close(seen["logits"][n], head.enc_bbox_head(known[n, order[n]]) + anchors[0, order[n]])


def test_learned_content_and_fewer_cells_than_queries() -> None:
    shape = QueryShape(16, 2, (3, 2), 2, 24, queries=50, classes=3, learned_content=True)
    boxes, scores = make_head(shape)(features())
    assert (boxes.shape, scores.shape) == ((2, 30, 4), (2, 30, 3))


def test_a_level_beyond_the_pyramid_is_made_from_the_coarsest_map() -> None:
    shape = QueryShape(16, 2, (3, 2, 1), 1, 24, queries=10, classes=3)
    seeded()
    projections = [projection(5, 16), projection(5, 16), projection(5, 16, 3)]
    head = QueryHead(shape, projections, RefiningDecoder(shape)).eval()
    boxes, _ = head(features())
    assert boxes.shape == (2, 10, 4)
    assert head.input_proj[2](features()[1]).shape[2:] == (1, 2)


def test_stored_boxes_of_cells_count_at_their_own_size_only() -> None:
    head = make_head()
    plain = head(features())[0]
    logits, _ = cell_boxes(SIZES, plain)
    head.stored = StoredAnchors(SIZES, logits + 0.5)
    assert not torch.allclose(head(features())[0], plain, atol=1e-3)
    head.stored = StoredAnchors(((6, 4), (2, 3)), logits + 0.5)
    torch.testing.assert_close(head(features())[0], plain)


def test_each_layer_refines_the_boxes_of_the_one_before() -> None:
    seeded()
    decoder = RefiningDecoder(SHAPE).double().eval()
    content, memory = torch.randn(1, 4, 16, dtype=torch.float64), torch.randn(1, 30, 16, dtype=torch.float64)
    first = torch.randn(1, 4, 4, dtype=torch.float64)
    boxes, scores = decoder(content, first, memory, SIZES)
    x, b = content, first.sigmoid()
    for layer, head in zip(decoder.layers, decoder.box_heads, strict=True):
        x = layer(x, decoder.query_pos_head(b), b, memory, SIZES)
        b = torch.sigmoid(head(x) + torch.log(b / (1 - b)))
    torch.testing.assert_close(boxes, b)
    torch.testing.assert_close(scores, decoder.score_head(x))


@pytest.mark.parametrize(
    "numbers",
    [
        {"heads": 3},
        {"queries": 0},
        {"points": ()},
        {"points": (4, 0)},
        {"hidden": 10**6},
        {"layers": 65},
        {"hidden": 18},
    ],
)
def test_sizes_are_checked_before_anything_is_built(numbers: dict[str, int]) -> None:
    given = {"hidden": 16, "heads": 2, "points": (3, 2), "layers": 2, "ffn": 24, "queries": 10, "classes": 3, **numbers}
    with pytest.raises(CheckpointError, match="decoder"):
        QueryShape(**given)  # type: ignore[arg-type]
