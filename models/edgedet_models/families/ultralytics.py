"""Ultralytics' detectors: YOLOv3u, v5u, v8, v9, v10, YOLO11, 12 and 26, RT-DETR, and what is made of the same blocks.

One loader for all: the network is rebuilt from the pickled module tree, whatever the version that wrote it (8.0 to 8.4)
and the YAML that it came from. Bare state dicts are compared with the published networks. YOLOv10's official files are
of the same kind. YOLOv10 and YOLO26 hold two heads; see `DistanceDetector.choose_head`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.stated_licence import stated_licence
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_models.layer_list.pickled import naming
from edgedet_models.ultralytics.pickled import PickledDetector
from edgedet_models.ultralytics.pickled_queries import PickledQueries
from edgedet_models.ultralytics.rtdetr import RTDETR_BUILDERS
from edgedet_models.ultralytics.state_dict import MatchedNetwork, match_networks
from edgedet_models.ultralytics.variants import BUILDERS, LAYOUTS, name_variant
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "ultralytics"
LICENCE = "AGPL-3.0"
"""Of the code since 2023; files of its first months, under GPL-3.0, do not say so and are given the stricter one."""
FORMS = ("pickled modules", "state dict")
VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {**BUILDERS, **RTDETR_BUILDERS}


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognise pickled models by their head.

    Raises:
        CheckpointError: The model is made for another task, which one sentence names.
    """
    with naming(checkpoint.path):
        network = _find(checkpoint)
        if network is not None:
            return Recognition(FAMILY, _variant(network), network.class_names(), network.evidence)
        queries = PickledQueries.find(checkpoint)
        if queries is not None:
            return Recognition(FAMILY, queries.variant, queries.class_names(), queries.evidence)
        found = _match(checkpoint)
        return None if found is None else Recognition(FAMILY, found.variant, found.class_names, found.evidence)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Rebuild the network from the file; where it has two heads, both.

    Raises:
        CheckpointError: It is none of these, has layers that are not supported, or contradicts itself.
    """
    with naming(checkpoint.path):
        network = _find(checkpoint)
        if network is not None:
            return network.build(
                family=FAMILY,
                variant=_variant(network),
                licence=stated_licence(checkpoint) or LICENCE,
            )
        queries = PickledQueries.find(checkpoint)
        if queries is not None:
            return queries.build(family=FAMILY, variant=queries.variant, licence=stated_licence(checkpoint) or LICENCE)
        found = _match(checkpoint)
        if found is None:
            raise CheckpointError("expected a detector of Ultralytics' code, got another kind of file")
        return found.build(checkpoint.path, stated_licence(checkpoint) or LICENCE)


def _find(checkpoint: Checkpoint) -> PickledDetector | None:
    network = PickledDetector.find(checkpoint)
    of_yolov9 = network is not None and network.node.class_path.startswith("models.")
    return None if of_yolov9 else network


def _variant(network: PickledDetector) -> str:
    return name_variant(network.layers[:-1], network.head.bins)


def _match(checkpoint: Checkpoint) -> MatchedNetwork | None:
    return None if checkpoint.module() is not None else match_networks(LAYOUTS, BUILDERS, checkpoint.tensors())
