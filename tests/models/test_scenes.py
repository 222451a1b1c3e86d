"""The renderer: what it promises about labels, seeds and caches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedet.evaluation import load_dataset
from edgedet_models.scenes import (
    KINDS,
    SceneCache,
    make_symbol,
    preview_sheet,
    render_scene,
    write_cache,
    write_coco,
)
from edgedet_models.scenes.card import Card, make_card
from edgedet_models.scenes.placement import Pose, place_card
from edgedet_models.scenes.surfaces import SURFACES, draw_surface
from edgedet_runtime.errors import InputError

zxingcpp = pytest.importorskip("zxingcpp", reason="the extra `train` is not installed")
pytest.importorskip("segno", reason="the extra `train` is not installed")


@pytest.mark.parametrize("kind", KINDS)
def test_symbols_have_ink_on_every_side(kind: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        symbol = make_symbol(kind, rng)
        assert symbol.kind == kind
        assert set(np.unique(symbol.modules)) <= {0, 1}
        for edge in (symbol.modules[0], symbol.modules[-1], symbol.modules[:, 0], symbol.modules[:, -1]):
            assert edge.any()


def test_most_data_matrix_codes_are_square_and_some_are_dense() -> None:
    shapes = [make_symbol("datamatrix", np.random.default_rng([5, i])).modules.shape for i in range(120)]
    assert 0.75 < np.mean([rows == columns for rows, columns in shapes]) < 0.98
    assert max(max(shape) for shape in shapes) > 60


def test_linear_contents_are_always_writable() -> None:
    # UPC-E cannot suppress the zeros of every number.
    for i in range(400):
        make_symbol("linear", np.random.default_rng([6, i]))


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="kind: expected one of qr"):
        make_symbol("maxicode", np.random.default_rng(0))


def test_same_seed_same_scene_other_seed_other_scene() -> None:
    first, again, other = render_scene(7, long_side=256), render_scene(7, long_side=256), render_scene(8, long_side=256)
    assert np.array_equal(first.image_bgr, again.image_bgr)
    assert [o.kind for o in first.objects] == [o.kind for o in again.objects]
    assert first.image_bgr.shape != other.image_bgr.shape or not np.array_equal(first.image_bgr, other.image_bgr)


def test_boxes_lie_in_the_picture() -> None:
    seen = 0
    for seed in range(12):
        scene = render_scene(seed, long_side=256)
        height, width = scene.image_bgr.shape[:2]
        assert max(height, width) <= 256  # less where the picture was cut down to its code
        for item in scene.objects:
            x0, y0, x1, y1 = item.box_xyxy((height, width))
            assert 0 <= x0 <= x1 <= width
            assert 0 <= y0 <= y1 <= height
            seen += 1
    assert seen > 5


@pytest.mark.parametrize("pose", [Pose((200, 150), 180), Pose((200, 150), 200, 0.4, (0.3, -0.25))])
def test_label_is_where_a_decoder_finds_the_code(pose: Pose) -> None:
    symbol = None
    rng = np.random.default_rng(11)
    while symbol is None or symbol.symbology != "QRCode" or len(symbol.modules) > 33:
        symbol = make_symbol("qr", rng)
    card = make_card(symbol, np.random.default_rng(2), target_px=pose.size_px, plain=True)
    scene = np.full((300, 400, 3), 255, dtype=np.uint8)
    outline = place_card(scene, card, pose, np.random.default_rng(1))
    found = zxingcpp.read_barcode(scene)
    assert found is not None
    corners = np.array(
        [
            (p.x, p.y)
            for p in (
                found.position.top_left,
                found.position.top_right,
                found.position.bottom_right,
                found.position.bottom_left,
            )
        ]
    )
    assert np.abs(corners - outline[::8]).max() < 6


def test_outline_of_a_bent_card_follows_its_ink() -> None:
    bgr = np.full((240, 240, 3), 255, dtype=np.uint8)
    bgr[20:220, 20:220] = 0
    card = Card(bgr, np.full((240, 240), 255, dtype=np.uint8), (20, 20, 220, 220), "marker")
    scene = np.full((400, 400, 3), 255, dtype=np.uint8)
    outline = place_card(scene, card, Pose((200, 200), 200, bend=0.9), np.random.default_rng(1))
    ys, xs = np.nonzero(cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY) < 150)
    ink = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert np.abs(np.concatenate([outline.min(axis=0), outline.max(axis=0)]) - ink).max() < 4


@pytest.mark.parametrize("name", sorted(SURFACES))
def test_surfaces_fill_the_picture(name: str) -> None:
    image = draw_surface(np.random.default_rng(5), 60, 90, name)
    assert image.shape == (60, 90, 3)
    assert image.dtype == np.uint8


def test_cache_returns_what_was_rendered(tmp_path: Path) -> None:
    paths = list(write_cache(tmp_path, 5, first_seed=40, shard=3, processes=1, long_side=160))
    assert len(paths) == 2
    cache = SceneCache(tmp_path)
    assert len(cache) == 5
    for index in range(5):
        image, class_ids, outlines = cache[index]
        scene = render_scene(40 + index, long_side=160)
        assert class_ids.tolist() == [o.class_id for o in scene.objects]
        assert image.shape == scene.image_bgr.shape
        assert np.abs(image.astype(int) - scene.image_bgr).mean() < 12
        for outline, item in zip(outlines, scene.objects, strict=True):
            assert np.array_equal(outline, item.outline)
    list(write_cache(tmp_path, 3, first_seed=45, shard=3, processes=1, long_side=160))
    assert cache.refresh() == 8


def test_empty_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected shards"):
        SceneCache(tmp_path)


def test_coco_set_holds_the_boxes_of_its_scenes(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    pictures = list(write_coco(path, 6, first_seed=40, processes=1, long_side=160))
    data = load_dataset(path)
    assert data.classes == KINDS
    assert [labelled.path for labelled in data.pictures] == pictures
    for seed, labelled in enumerate(data.pictures, 40):
        scene = render_scene(seed, long_side=160)
        size_hw = scene.image_bgr.shape[:2]
        boxes = np.array([o.box_xyxy(size_hw) for o in scene.objects]).reshape(-1, 4)
        shown = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=1e9) >= 1
        assert np.allclose(labelled.boxes_xyxy, boxes[shown], atol=0.011)
        assert labelled.class_ids.tolist() == [o.class_id for o, keep in zip(scene.objects, shown, strict=True) if keep]
        image = cv2.imread(str(labelled.path))
        assert image is not None
        assert np.abs(image.astype(int) - scene.image_bgr).mean() < 12
    assert data.objects > 3


def test_preview_sheet_has_a_cell_per_seed() -> None:
    assert preview_sheet(range(3), columns=2, cell_px=64).shape == (128, 128, 3)
