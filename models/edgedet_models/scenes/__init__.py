"""Scenes: a renderer of labelled pictures with machine-readable codes, from nothing but random numbers.

``render_scene(seed)`` gives a picture and its objects; ``write_cache`` renders many with several processes, to train
with, and ``write_coco`` to score on; ``preview_sheet`` lays some out to look at. Symbols come from zxing-cpp, segno and
cv2.aruco (the extra ``train``); all else is drawn here.
"""

from __future__ import annotations

from edgedet_models.scenes.cache import SceneCache, write_cache
from edgedet_models.scenes.coco import write_coco
from edgedet_models.scenes.scene import Scene, SceneObject, render_scene
from edgedet_models.scenes.sheet import preview_sheet
from edgedet_models.scenes.symbols import KINDS, Symbol, make_symbol

__all__ = [
    "KINDS",
    "Scene",
    "SceneCache",
    "SceneObject",
    "Symbol",
    "make_symbol",
    "preview_sheet",
    "render_scene",
    "write_cache",
    "write_coco",
]
