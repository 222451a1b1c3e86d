"""Files of the same code that hold no box detector: told apart by the class of their head."""

from __future__ import annotations

from collections.abc import Mapping

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.tree import unwrap
from edgedet_runtime.errors import CheckpointError

__all__ = ["refuse_other_tasks"]

TASKS: Mapping[str, str] = {
    "Classify": "image classification",
    "Depth": "depth estimation",
    "IKeypoint": "pose estimation",
    "OBB": "oriented boxes (OBB)",
    "OBB26": "oriented boxes (OBB)",
    "Panoptic": "panoptic segmentation",
    "Pose": "pose estimation",
    "Pose26": "pose estimation",
    "Segment": "instance segmentation",
    "Segment26": "instance segmentation",
    "SemanticSegment": "semantic segmentation",
    "WorldDetect": "open-vocabulary detection (YOLO-World)",
    "YOLOEDetect": "open-vocabulary detection (YOLOE)",
    "YOLOESegment": "open-vocabulary segmentation (YOLOE)",
    "YOLOESegment26": "open-vocabulary segmentation (YOLOE)",
}
"""Tasks by the head's class name."""
OPEN_VOCABULARY = "open-vocabulary"


def refuse_other_tasks(node: ModuleNode) -> None:
    """Raise if a pickled model of Ultralytics', YOLOv5's, YOLOv7's or YOLOv9's code is made for another task.

    Raises:
        CheckpointError: One sentence that names the task.
    """
    if node.class_path.partition(".")[0] not in ("models", "ultralytics"):
        return
    model = unwrap(node).children.get("model")
    heads = [] if model is None else [layer for layer in model.children.values() if layer.type_name in TASKS]
    if not heads:
        return
    task = TASKS[heads[-1].type_name]
    way_out = (
        "; fix its classes with set_classes and export it to ONNX with its own code, which edgedet reads"
        if task.startswith(OPEN_VOCABULARY) and "segmentation" not in task
        else ""
    )
    raise CheckpointError(
        f"the file is whole but made for {task} ({node.type_name} with the head {heads[-1].type_name}), and edgedet"
        f" takes detectors of upright boxes with fixed classes{way_out}"
    )
