"""The training recipe: assignment, losses, augmentation, data sets, and a run that learns and goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import load
from edgedet_models.families.edgecode import EdgeCode, EdgeCodeSize
from edgedet_models.training import TrainConfig, train
from edgedet_models.training.assigner import assign, candidate_points, pairwise_iou
from edgedet_models.training.augment import Sample, augment, letterbox_sample, mosaic
from edgedet_models.training.dataset import collate, open_data
from edgedet_models.training.loop import build_to_train, learning_rate_at
from edgedet_models.training.losses import Targets, complete_iou, detection_loss
from edgedet_models.training.validate import Scored, choose_threshold, score_picture
from edgedet_runtime.detections import Detections
from edgedet_runtime.errors import InputError

TINY = EdgeCodeSize((8, 8, 8, 8, 8), (0, 1, 1, 1), (8, 8, 8))


def test_pairwise_iou_table() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    expected = torch.tensor([[1.0, 1 / 3, 0], [0, 0, 0]])
    assert torch.allclose(pairwise_iou(a, b), expected, atol=1e-6)


def test_complete_iou_is_one_for_equal_and_falls_with_distance() -> None:
    box = torch.tensor([[0.0, 0, 10, 20]])
    assert complete_iou(box, box).item() == pytest.approx(1.0, abs=1e-5)
    near, far = complete_iou(box, box + 20), complete_iou(box, box + 60)
    assert far < near < 0


def test_complete_iou_of_a_turned_box_against_the_paper() -> None:
    a, b = torch.tensor([[0.0, 0, 20, 10]]), torch.tensor([[5.0, -5, 15, 15]])
    iou = 100 / 300
    v = 4 / np.pi**2 * (np.arctan(2.0) - np.arctan(0.5)) ** 2
    alpha = v / (1 - iou + v)
    assert complete_iou(a, b).item() == pytest.approx(iou - alpha * v, abs=1e-5)


def _four_candidates() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    points = torch.tensor([[5.0, 5], [15, 5], [5, 15], [15, 15]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 20, 10], [0, 0, 10, 20], [40, 40, 50, 50]]])
    return boxes, torch.full((1, 4, 2), 0.5), points, torch.full((4,), 1.0)


def test_best_aligned_candidate_learns_the_highest_score() -> None:
    boxes, scores, points, strides = _four_candidates()
    target = torch.tensor([[[0.0, 0, 10, 10]]])
    found = assign(boxes, scores, points, strides, target, torch.tensor([[1]]), torch.tensor([[True]]), top=2)
    # Only the first candidate's point lies in the object.
    assert found.positive.tolist() == [[True, False, False, False]]
    assert found.scores[0, 0].tolist() == pytest.approx([0.0, 1.0])
    assert torch.equal(found.boxes[0, 0], target[0, 0])


def test_a_candidate_claimed_twice_goes_to_the_better_overlap() -> None:
    boxes, scores, points, strides = _four_candidates()
    objects = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 20, 20]]])
    found = assign(boxes, scores, points, strides, objects, torch.tensor([[0, 1]]), torch.tensor([[True, True]]))
    assert torch.equal(found.boxes[0, 0], objects[0, 0])
    assert torch.equal(found.boxes[0, 1], objects[0, 1])
    assert found.scores[0, 0, 1] == 0


def test_padding_and_no_objects_assign_nothing() -> None:
    boxes, scores, points, strides = _four_candidates()
    objects, ids = torch.tensor([[[0.0, 0, 10, 10]]]), torch.tensor([[0]])
    assert not assign(boxes, scores, points, strides, objects, ids, torch.tensor([[False]])).positive.any()
    none = assign(boxes, scores, points, strides, objects[:, :0], ids[:, :0], torch.zeros(1, 0, dtype=torch.bool))
    assert not none.positive.any()


def test_candidate_points_are_cell_centres_in_the_order_of_decode() -> None:
    model = EdgeCode("custom", TINY, ("a",)).eval()
    raw = model(torch.zeros(1, 3, 32, 64))
    points, strides = candidate_points(model.spec, raw)
    assert points[0].tolist() == [4, 4]
    assert points[1].tolist() == [12, 4]
    assert strides.tolist() == [8.0] * 32 + [16.0] * 8 + [32.0] * 2


def test_ignored_regions_cost_nothing() -> None:
    model = EdgeCode("custom", TINY, ("a",)).eval()
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 64, 64))
    everywhere = torch.tensor([[[-1.0, -1, 65, 65]]])
    no, yes = torch.tensor([[False]]), torch.tensor([[True]])
    ids = torch.tensor([[0]])
    background, _ = detection_loss(model.spec, raw, Targets(everywhere, ids, no, no))
    ignored, _ = detection_loss(model.spec, raw, Targets(everywhere, ids, no, yes))
    assert background > 0
    assert ignored == 0


def _square(at: tuple[int, int], side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.full((120, 200, 3), 200, dtype=np.uint8)
    x, y = at
    cv2.rectangle(image, at, (x + side - 1, y + side - 1), (0, 0, 0), -1)
    cv2.rectangle(image, (x + 4, y + 4), (x + side - 5, y + side - 5), (255, 255, 255), -1)
    outline = np.array([[[x, y], [x + side, y], [x + side, y + side], [x, y + side]]], dtype=np.float32)
    return image, np.array([0]), outline


def test_augmented_boxes_follow_the_ink() -> None:
    image, ids, outline = _square((70, 40), 48)
    checked = 0
    for seed in range(60):
        sample = augment(image, ids, outline, 128, np.random.default_rng(seed))
        if len(sample.ignored) != 1 or sample.ignored[0]:
            continue
        grey = cv2.cvtColor(sample.image_bgr, cv2.COLOR_BGR2GRAY).astype(float)
        x0, y0, x1, y1 = sample.boxes_xyxy[0]
        if x0 < 2 or y0 < 2 or x1 > 126 or y1 > 126 or grey.max() - grey.min() < 80:
            continue
        dark = grey < (grey.min() + 0.25 * (grey.max() - grey.min()))
        if dark[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1].sum() < 0.9 * dark.sum():
            continue  # the darkest pixels are noise or padding
        ys, xs = np.nonzero(dark)
        assert np.abs(np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - sample.boxes_xyxy[0]).max() < max(
            4, 0.12 * (x1 - x0)
        )
        checked += 1
    assert checked >= 10


def test_letterboxed_sample_scales_boxes_and_ignores_the_tiny_and_the_faint() -> None:
    image, ids, outline = _square((70, 40), 48)
    sample = letterbox_sample(image, ids, outline, 100)
    assert sample.boxes_xyxy[0] == pytest.approx([35, 40, 59, 64])
    assert not sample.ignored[0]
    assert letterbox_sample(image, ids, outline, 16).ignored[0]
    assert letterbox_sample(np.full_like(image, 90), ids, outline, 100).ignored[0]


def test_mosaic_keeps_each_object_over_its_own_ink() -> None:
    tiles = []
    for i in range(4):
        image = np.full((32, 32, 3), 200, np.uint8)
        image[4 + i : 14 + i, 6 : 16 + i] = 10 * i
        box = np.array([[6, 4 + i, 16 + i, 14 + i]], np.float32)
        tiles.append(Sample(image, box, np.array([i]), np.array([i == 2])))
    whole = mosaic(tiles)
    assert whole.image_bgr.shape == (64, 64, 3)
    assert whole.class_ids.tolist() == [0, 1, 2, 3]
    assert whole.ignored.tolist() == [False, False, True, False]
    for class_id, (x0, y0, x1, y1) in zip(whole.class_ids, whole.boxes_xyxy.astype(int), strict=True):
        assert (whole.image_bgr[y0:y1, x0:x1] == 10 * class_id).all()
        assert (whole.image_bgr[y0:y1, x1] == 200).all()


def test_views_near_the_edge_of_a_large_picture_rarely_show_its_border() -> None:
    image = np.full((900, 900, 3), 220, np.uint8)
    outline = np.array([[[5, 5], [25, 5], [25, 25], [5, 25]]], np.float32)
    bordered = 0
    for seed in range(100):
        view = augment(image, np.array([0]), outline, 64, np.random.default_rng(seed)).image_bgr.astype(int)
        corners = view[[0, 0, -1, -1], [0, -1, 0, -1]]
        bordered += bool((np.ptp(corners, axis=0) > 40).any())
    assert bordered < 45


def _write_yolo(folder: Path) -> Path:
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "labels" / "train").mkdir(parents=True)
    for i in range(4):
        image, _, _ = _square((20 + 30 * i, 30), 48)
        cv2.imwrite(str(folder / "images" / "train" / f"{i}.png"), image)
        row = f"0 {(20 + 30 * i + 24) / 200} {54 / 120} {48 / 200} {48 / 120}\n"
        (folder / "labels" / "train" / f"{i}.txt").write_text(row)
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: square}\n")
    return folder / "data.yaml"


def test_yolo_and_coco_say_the_same(tmp_path: Path) -> None:
    yolo, names = open_data(_write_yolo(tmp_path))
    coco = {
        "images": [{"id": 5, "file_name": "train/1.png"}],
        "categories": [{"id": 9, "name": "square"}],
        "annotations": [{"image_id": 5, "category_id": 9, "bbox": [50, 30, 48, 48]}],
    }
    (tmp_path / "c.json").write_text(json.dumps(coco))
    same, same_names = open_data(tmp_path / "c.json")
    assert names == same_names == ("square",)
    assert np.array_equal(yolo[1][0], same[0][0])
    assert np.array_equal(yolo[1][1], same[0][1])
    assert np.allclose(yolo[1][2], same[0][2], atol=1e-3)


def test_open_data_refuses_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of rendered scenes"):
        open_data(tmp_path / "nothing.txt")


@pytest.mark.parametrize("variant", ["edgecode-n", "yolox-nano"])
def test_steps_on_one_batch_lower_the_loss(variant: str) -> None:
    """With and without objectness."""
    from edgedet_models.families import build

    torch.manual_seed(0)
    model = build(variant, ("square",)).train()
    image, ids, outline = _square((70, 40), 48)
    x, targets = collate([letterbox_sample(image, ids, outline, 64)] * 2, model.spec.input)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(8):
        loss, _ = detection_loss(model.spec, model(x), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.65 * losses[0]


def test_a_run_writes_weights_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss_and_a_one(*arguments: Any) -> tuple[torch.Tensor, dict[str, float]]:
        loss, parts = detection_loss(*arguments)
        return loss, {**parts, "one": 1.0}

    monkeypatch.setattr("edgedet_models.training.loop.detection_loss", loss_and_a_one)
    data = _write_yolo(tmp_path / "data")
    config = TrainConfig(
        tmp_path / "run", data, images=50, batch=1, sizes=(64,), size_weights=(1.0,), processes=1, bfloat16=False
    )
    weights = train(config, show=False)
    model = load(read_checkpoint(weights))
    assert model.spec.classes == ("square",)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["progress"]["share"] == pytest.approx(1.0)
    train(dataclasses.replace(config, images=520), show=False)
    later = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert later["progress"]["images"] >= 520
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 1
    assert all(row["images_per_s"] > 0 for row in rows)
    assert rows[0]["one"] == 1.0, "a row holds means, also where the run went on between two rows"


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate_at(s, 1.0, 0.1) for s in (0.0, 0.05, 0.1, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(1.0)
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": (100,), "size_weights": (1.0,)}, "multiples of 32"),
        ({"hours": 0.0}, "hours"),
        ({"batch": 0}, "batch"),
    ],
)
def test_impossible_runs_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainConfig(tmp_path, tmp_path, **change)  # type: ignore[arg-type]


def test_matching_is_one_to_one_and_excuses_ignored_objects() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]], dtype=np.float32)
    found = Detections(boxes, np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32), np.zeros(4, dtype=np.int64), ("a",))
    objects = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], dtype=np.float32)
    owner, excused = score_picture(found, objects, np.zeros(2, dtype=np.int64), np.array([False, True]))
    assert owner.tolist() == [0, -1, 1, -1]
    assert excused.tolist() == [False, False, True, False]


def test_threshold_respects_the_budget_of_false_boxes() -> None:
    scored = Scored(
        scores=np.array([0.9, 0.5, 0.4], dtype=np.float32),
        class_ids=np.zeros(3, dtype=np.int64),
        owner=np.array([0, 1, -1]),
        excused=np.zeros(3, dtype=bool),
        on_empty=np.array([False, False, True]),
        object_class=np.zeros(2, dtype=np.int64),
        object_px=np.array([20, 40], dtype=np.float32),
        object_ignored=np.zeros(2, dtype=bool),
        pictures=2,
        empty_pictures=1,
    )
    grid = (0.3, 0.45, 0.6)
    assert choose_threshold(scored, false_per_empty=0.5, grid=grid) == 0.45
    assert scored.recall(0.45) == 1.0
    assert scored.recall(0.6) == 0.5
    assert scored.false_per_empty(0.3) == 1.0


def test_of_two_heads_the_one_that_shares_objects_among_cells_is_trained() -> None:
    """The assigner gives an object several cells; suppression then belongs to the result."""
    model = build_to_train("yolov10n", ("cat", "dog"))
    assert model.training
    assert model.head_choices == ("one-to-many",)
    assert model.spec.decode.suppression == "nms"


def test_training_takes_polygons_lists_and_numbered_names_as_evaluation_does(tmp_path: Path) -> None:
    path = _write_yolo(tmp_path)
    (tmp_path / "labels/train/0.txt").write_text("10 .1 .2 .5 .1 .3 .9\n")
    path.write_text("train: [images/train]\nnames: {" + ", ".join(f"{n}: n{n}" for n in range(11)) + "}\n")
    source, names = open_data(path)
    _, class_ids, outlines = source[0]
    assert names[class_ids[0]] == "n10"
    assert np.allclose(outlines[0], np.array([[0.1, 0.1], [0.5, 0.1], [0.5, 0.9], [0.1, 0.9]]) * [200, 120], atol=1e-3)
