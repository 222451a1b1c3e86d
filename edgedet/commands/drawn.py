"""Pictures and videos with their detections drawn in, written to a folder."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgedet_runtime.errors import InputError

if TYPE_CHECKING:
    from edgedet_runtime import Detections, Frame

__all__ = ["DrawnWriter"]

_DEFAULT_FPS = 25.0


class DrawnWriter:
    """Writes drawn frames: a picture as a file of the same name, a video or camera as one MP4.

    Two sources of the same name do not overwrite each other, and no source is ever overwritten.
    """

    def __init__(self, folder: Path | None) -> None:
        """Remember the folder; it is made when the first frame is written."""
        self._folder = folder
        self._taken: set[str] = set()
        self._stream: str | None = None
        self._video: Any = None

    def __enter__(self) -> DrawnWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the video, if one is open."""
        self._finish()

    def write(self, frame: Frame, detections: Detections) -> None:
        """Draw and write one frame.

        Raises:
            InputError: The folder or file cannot be written, or a source would be overwritten.
        """
        from edgedet_runtime import draw

        picture = draw(frame.image_bgr, detections)
        if frame.stream:
            if frame.path != self._stream or frame.index == 0:
                self._start(frame)
            self._video.write(picture)
        else:
            self._finish()
            self._write_picture(Path(frame.path), picture)

    def _write_picture(self, source: Path, picture: Any) -> None:
        import cv2

        from edgedet_runtime.pictures import PICTURE_SUFFIXES

        target = self._target(source.name, source)
        if target.suffix.lower() not in PICTURE_SUFFIXES:
            target = target.with_name(f"{target.name}.png")
        good, data = cv2.imencode(target.suffix.lower(), picture)
        if not good:
            raise InputError(f"{target}: OpenCV cannot write pictures of this format")
        try:
            target.write_bytes(data.tobytes())
        except OSError as e:
            raise InputError(f"{target}: cannot be written: {e.strerror or e}") from None

    def _start(self, frame: Frame) -> None:
        import cv2

        from edgedet_runtime.capture import open_capture

        self._finish()
        source = Path(frame.path)
        capture = open_capture(frame.path) if source.is_file() else None
        fps = capture.get(cv2.CAP_PROP_FPS) if capture is not None else 0.0
        target = self._target(source.name.replace(":", "-") if capture is None else f"{source.stem}.mp4", source)
        target = target.with_suffix(".mp4")
        height, width = frame.image_bgr.shape[:2]
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._video = cv2.VideoWriter(str(target), codec, fps if fps > 0 else _DEFAULT_FPS, (width, height))
        if not self._video.isOpened():
            raise InputError(f"{target}: OpenCV cannot write this video")
        self._stream = frame.path

    def _finish(self) -> None:
        if self._video is not None:
            self._video.release()
        self._video = self._stream = None

    def _target(self, name: str, source: Path) -> Path:
        """Return a path in the folder that no earlier frame of this run took."""
        assert self._folder is not None, "nothing is written without a folder"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InputError(f"--save {self._folder}: cannot make the folder: {e.strerror or e}") from None
        wish, number = Path(name), 1
        while name in self._taken:
            number += 1
            name = f"{wish.stem}-{number}{wish.suffix}"
        self._taken.add(name)
        target = self._folder / name
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"--save {self._folder}: {source} would be overwritten; choose another folder")
        return target
