"""Detectors from state dicts of the official RT-DETR, RT-DETRv2, D-FINE and DEIM repositories.

A state dict holds no configuration. Widths, depths, heads, sampled points, levels, classes, bins and the input size of
training are derived from keys, shapes and buffers. What leaves no trace is taken from the official configurations: 300
queries, where they do not start from learned vectors; as many heads in the encoder as in the decoder; the activation of
the decoder, ReLU, and SiLU in DEIM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.shapes import Shapes
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.detr.backbones.hgnetv2 import HgNetV2
from edgedet_models.detr.backbones.presnet import PResNet
from edgedet_models.detr.decoder import RefiningDecoder
from edgedet_models.detr.fine_decoder import DistributionDecoder, Quality, distance_bins
from edgedet_models.detr.hybrid_encoder import HybridEncoder
from edgedet_models.detr.mlp import Mlp
from edgedet_models.detr.names import official_names
from edgedet_models.detr.query_head import QueryHead, projection
from edgedet_models.detr.shape import QueryShape
from edgedet_models.detr.spec import STRIDE, query_spec
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import ModelSpec

__all__ = ["OfficialDetr", "OfficialFile"]

QUERIES, POINTS, SIZE_PX, MOST_PX = 300, 4, 640, 8192
SAME_PLACE = 5e-4
"""Centers of cells in one row or column differ by less, as a fraction of the input, even where 16 bits round them."""
_MARKS = ("decoder.enc_score_head.weight", "decoder.decoder.layers.0.cross_attn.sampling_offsets.weight")


class OfficialDetr(DetectorModule):
    """Backbone, hybrid encoder, head of queries."""

    def __init__(self, spec: ModelSpec, backbone: nn.Module, encoder: HybridEncoder, decoder: QueryHead) -> None:
        """Keep the parts."""
        super().__init__(spec)
        self.backbone = backbone
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return boxes (N, Q, 4) and class logits (N, Q, classes)."""
        features = self.backbone(x)[-len(self.encoder.input_proj) :]
        boxes, scores = self.decoder(self.encoder(features))
        return boxes, scores


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """A state dict of one of these repositories.

    Attributes:
        path: The checkpoint, for messages.
        raw: Its tensors under their official names.
        act: Activation of the decoder, a key of `ACTIVATIONS`.
    """

    path: Path
    raw: Mapping[str, Tensor]
    act: str = "relu"

    @classmethod
    def find(cls, path: Path, tensors: Mapping[str, Tensor], *, act: str = "relu") -> OfficialFile | None:
        """Return the network that a state dict holds; None if it is of another kind."""
        return cls(path, tensors, act) if all(mark in tensors for mark in _MARKS) else None

    @property
    def is_fine(self) -> bool:
        """Whether boxes are distributions that the layers refine: D-FINE's form, not RT-DETR's."""
        return "decoder.reg_scale" in self.raw or "decoder.decoder.reg_scale" in self.raw

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._shapes.matrix("decoder.dec_score_head.0")[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """``class0`` …, as a state dict holds no names."""
        return tuple(f"class{i}" for i in range(self.classes))

    @property
    def evidence(self) -> str:
        """What was found and what was assumed, for a person to read."""
        shape = self.shape
        queries = "queries" if shape.learned_content else "queries (assumed, no key shows them)"
        form = "distributions (FDR, LQE)" if self.is_fine else "boxes"
        return (
            f"state dict of a DETR-like detector: {self.backbone_name}, {len(shape.points)} levels, {shape.layers}"
            f" decoder layers that refine {form}, {shape.queries} {queries}, {self.act} in the decoder (assumed)"
        )

    @property
    def backbone_name(self) -> str:
        """The kind of backbone.

        Raises:
            CheckpointError: It is none that can be built.
        """
        if self._shapes.has("backbone.res_layers"):
            return "PResNet"
        if self._shapes.has("backbone.stages") and self._shapes.has("backbone.stem.stem1"):
            return "HGNetv2"
        first = next((name for name in self.raw if name.startswith("backbone.")), "none")
        raise CheckpointError(
            f"{self.path}: expected the backbone PResNet or HGNetv2 in a DETR-like state dict, got another (first"
            f" tensor {first:.80}); export the network to ONNX with its own code, which edgedet reads"
        )

    @property
    def _shapes(self) -> Shapes:
        return Shapes(self.raw, self.path)

    @property
    def shape(self) -> QueryShape:
        """Sizes of the decoder up to the last layer that runs in inference.

        Raises:
            CheckpointError: A tensor is missing, or the sizes contradict each other.
        """
        shapes, layer = self._shapes, "decoder.decoder.layers.0"
        ffn, hidden = shapes.matrix(f"{layer}.linear1")
        weights = shapes.matrix(f"{layer}.cross_attn.attention_weights")[0]
        points = self._points(weights, shapes.count("decoder.input_proj"))
        if weights % sum(points):
            raise CheckpointError(f"{self.path}: {weights} attention weights do not divide into {points} points")
        learned = "decoder.tgt_embed.weight" in self.raw
        return QueryShape(
            hidden=hidden,
            heads=weights // sum(points),
            points=points,
            layers=self._layers(hidden),
            ffn=ffn,
            queries=shapes.matrix("decoder.tgt_embed")[0] if learned else QUERIES,
            classes=self.classes,
            learned_content=learned,
            act=self.act,
        )

    def _points(self, weights: int, projections: int) -> tuple[int, ...]:
        """Return the sampled places per level: runs of 1 / n in a buffer; 4 each in RT-DETR's first version."""
        scales = self.raw.get("decoder.decoder.layers.0.cross_attn.num_points_scale")
        if scales is None:
            return (POINTS,) * (projections or self._shapes.count("encoder.input_proj"))
        points: list[int] = []
        values = scales.double().flatten().tolist()
        while values:
            count = round(1 / values[0]) if math.isfinite(values[0]) and values[0] > 1e-3 else 0
            run = values[:count]
            if not count or len(run) < count or max(run) - min(run) > 1e-3 * values[0]:
                raise CheckpointError(f"{self.path}: num_points_scale: expected runs of 1 / n, got {values[:8]}")
            points.append(count)
            values = values[count:]
        if not points or sum(points) > weights:
            raise CheckpointError(f"{self.path}: num_points_scale: expected the points of each level, got {points}")
        return tuple(points)

    def _layers(self, hidden: int) -> int:
        """Return how many layers run: D-FINE may train wider ones behind them."""
        prefix = "decoder.decoder.layers"
        count = self._shapes.count(prefix)
        return sum(self._shapes.matrix(f"{prefix}.{i}.linear1")[1] == hidden for i in range(count))

    def size_hw(self) -> tuple[int, int]:
        """Return the input size of training, by the stored boxes of its cells; 640 by 640 where there are none."""
        anchors = self.raw.get("decoder.anchors")
        if anchors is None or anchors.dim() != 3 or anchors.shape[2] != 4 or not anchors.shape[1]:
            return SIZE_PX, SIZE_PX
        boxes = anchors[0].double().sigmoid()
        fine = boxes[(boxes[:, 2] - boxes[:, 2].min()).abs() < 1e-3]
        features = self._shapes.count("encoder.input_proj")
        stride = STRIDE >> (features - 1)
        sides = []
        for column in (1, 0):
            places = fine[:, column].sort().values
            gaps = int((places.diff() > SAME_PLACE).sum())
            apart = float(places[-1] - places[0]) / gaps if gaps else 0.0
            sides.append(round(1 / apart) * stride if apart > 0 else 0)
        good = all(0 < side <= MOST_PX and side % STRIDE == 0 for side in sides)
        return (sides[0], sides[1]) if good else (SIZE_PX, SIZE_PX)

    def build(self, *, family: str, variant: str, licence: str, conf: float) -> OfficialDetr:
        """Build the detector with its weights, float32, evaluation mode.

        Raises:
            CheckpointError: Tensors are missing, left over, or do not fit each other.
        """
        shape = self.shape
        tensors = official_names(self.raw, shape.layers - 1)
        shapes = Shapes(tensors, self.path)
        backbone = HgNetV2(shapes, "backbone") if self.backbone_name == "HGNetv2" else PResNet(shapes, "backbone")
        encoder = HybridEncoder(shapes, "encoder", heads=shape.heads)
        refine = self._fine_decoder(shape) if self.is_fine else RefiningDecoder(shape)
        refine.query_pos_head = _mlp(shapes, "decoder.refine.query_pos_head", self.act)
        if not self.is_fine and self.act != "relu":
            refine.box_heads = nn.ModuleList(
                _mlp(shapes, f"decoder.refine.box_heads.{i}", self.act) for i in range(shape.layers)
            )
        decoder = QueryHead(shape, _projections(shapes, len(shape.points)), refine)
        decoder.enc_score_head = nn.Linear(shape.hidden, shapes.matrix("decoder.enc_score_head")[0])
        decoder.enc_bbox_head = _mlp(shapes, "decoder.enc_bbox_head", self.act)
        spec = query_spec(
            family=family,
            variant=variant,
            licence=licence,
            classes=self.class_names,
            size_hw=self.size_hw(),
            queries=shape.queries,
            conf=conf,
            interpolation="area-down",
        )
        model = OfficialDetr(spec, backbone, encoder, decoder)
        load_strict(model, tensors, path=self.path, what=f"{family} ({variant})")
        model.eval()
        try:
            with torch.no_grad():
                model(model.dummy_input((2 * STRIDE, 2 * STRIDE)))
        except (IndexError, RuntimeError, TypeError, ValueError) as e:
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise CheckpointError(f"{self.path}: its layers do not fit together: {reason}") from None
        return model

    def _fine_decoder(self, shape: QueryShape) -> DistributionDecoder:
        shapes = self._shapes
        rows = shapes.matrix("decoder.dec_bbox_head.0.layers.2")[0]
        bins, rest = divmod(rows, 4)
        if rest or bins < 5 or bins % 2 == 0:
            raise CheckpointError(f"{self.path}: expected four sides of an odd number of bins, got {rows} numbers")
        up, scale = (self._number(name) for name in ("up", "reg_scale"))
        name = f"decoder.decoder.lqe_layers.{shape.layers - 1}.reg_conf.layers"
        hidden, facts = shapes.matrix(f"{name}.0")
        quality = Quality(facts // 4 - 1, hidden, shapes.count(name), act=self.act)
        return DistributionDecoder(shape, quality, bins=distance_bins(bins, up, scale), scale=scale, mlp_act=self.act)

    def _number(self, key: str) -> float:
        tensor = self.raw.get(f"decoder.{key}", self.raw.get(f"decoder.decoder.{key}"))
        value = float(tensor.flatten()[0]) if tensor is not None and tensor.numel() else math.nan
        if not 0 < abs(value) < 1e4:
            raise CheckpointError(f"{self.path}: decoder.{key}: expected a number other than 0, got {value}")
        return value


def _mlp(shapes: Shapes, prefix: str, act: str) -> Mlp:
    sizes = [shapes.matrix(f"{prefix}.layers.{i}") for i in range(shapes.count(f"{prefix}.layers"))]
    if not sizes:
        raise CheckpointError(f"{shapes.path}: expected the layers {prefix}, which are missing; the file is damaged")
    return Mlp((sizes[0][1], *(rows for rows, _ in sizes)), act=act)


def _projections(shapes: Shapes, levels: int) -> list[nn.Module]:
    """Build the projections that the head has; D-FINE leaves out those that would not change the width."""
    made: list[nn.Module] = []
    for level in range(levels):
        name = f"decoder.input_proj.{level}"
        if not shapes.has(name):
            made.append(nn.Identity())
            continue
        c_out, c_in, kernel = shapes.conv(f"{name}.conv")
        made.append(projection(c_in, c_out, kernel))
    return made
