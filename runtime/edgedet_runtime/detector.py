"""Detector: a picture in, named boxes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from edgedet_runtime.bundle.model_files import ModelFile, OpenedModel, open_model
from edgedet_runtime.bundle.plan import Plan, Wishes, apply_plan
from edgedet_runtime.bundle.slot_state import STATE_FILE
from edgedet_runtime.choices import EngineName, Precision, Trial, choose_trial
from edgedet_runtime.cpu import available_threads, check_threads
from edgedet_runtime.detections import Detections
from edgedet_runtime.engines import Engine, load_engine
from edgedet_runtime.errors import ArgumentError, BusyError, InputError, MissingDependencyError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import ModelSpec, Thresholds

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet_runtime.bundle.slots import Started

__all__ = ["Detector", "StageTimes"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall-clock time of the three stages for one picture, in milliseconds."""

    pre_ms: float
    infer_ms: float
    post_ms: float


class Detector:
    """A model loaded into an engine, ready for pictures.

    ::

        with Detector("bundle") as detect:
            for box in detect(image_bgr):
                print(box.name, box.score, box.xyxy)

    A detector reuses its buffers from picture to picture and therefore belongs to one thread at a time; to
    detect in several threads, make one detector in each. A call while another thread is inside is a `BusyError`.

    A pickled detector, as a pool of processes passes it on, is its model's path (of slots: that of the bundle that was
    started), the engine, precision and threads that were chosen, and its settings; where it is unpickled, the model is
    loaded anew.

    Attributes:
        spec: The model's contract.
        model_file: The file that was chosen, with its engine and precision.
        thresholds: The settings in force: the model's defaults with the caller's changes.
        threads: Threads of the engine.
        engine: The loaded engine.
        last_times: Stage times of the last call; None before the first.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        engine: EngineName | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        plan: Plan | Literal["auto"] | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        classes: Iterable[int | str] | None = None,
        multi_label: bool | None = None,
        trial: Trial | None = None,
    ) -> None:
        """Find the file, load the engine and allocate the buffers.

        Args:
            model: A bundle folder, a folder with slots (``edgedet bundle install``) whose current bundle is started, or
                a single .onnx or .xml file.
            engine: ``onnxruntime`` (the default), ``openvino`` or ``opencv``.
            precision: ``fp32`` or ``int8``; by default what the bundle recommends for the engine.
            threads: Threads of the engine; by default what the process may use, see `cpu.available_threads`.
            plan: ``auto`` takes engine, precision and threads from the plan that ``edgedet profile --save-plan`` stored
                in the bundle; a bundle without one, a single file, or a plan that was measured on another kind of
                processor (a warning says so) means the defaults. A `Plan` says the three itself. What is given above
                wins over a plan, see `profiling.plans.apply_plan`.
            conf: Objects must score above this, 0..1; as all that follow, the model's default if None.
            iou: Boxes of a class that overlap by more than this are one object, 0..1.
            max_det: Objects per picture, at most.
            classes: Class ids or names to look for; all if None.
            multi_label: A place may hold objects of several classes.
            trial: Whether a file for which no public key vouches is loaded in a child process first, so that one that
                kills the engine is an error and not the end of this process. ``auto`` does so once for each content and
                engine, and remembers it; ``always`` does so in any case; ``never`` leaves it out. By default what
                ``EDGEDET_TRIAL`` says, else ``auto``. See `edgedet_runtime.engines.first_load`.

        Raises:
            InputError: An argument is out of range, or the model has no file for engine and precision.
            ModelFileError: The file or the stored plan cannot be read, or the file has no spec.
            MissingDependencyError: The engine is not installed; also where a plan names it, since another engine would
                not be what was measured.
            EngineError: The engine refuses the file.
            EngineDeathError: In a child process, the engine died of the file, hung, or took more memory than it may.
        """
        self._trial = choose_trial(trial)
        self._started = _start(Path(model))
        place = Path(model) if self._started is None else self._started.bundle
        wishes = apply_plan(place, plan, Wishes(engine, precision, threads))
        opened = _open(place, wishes)
        self.model_file: ModelFile = opened.file
        self.spec: ModelSpec = self.model_file.spec
        self.thresholds = _thresholds(self.spec.thresholds, conf, iou, max_det, multi_label)
        self._wanted = _wanted(self.spec.classes, classes)
        self.threads = available_threads() if wishes.threads is None else check_threads(wishes.threads)
        try:
            self.engine = load_engine(
                self.engine_name, opened.source, self.spec, threads=self.threads, trial=self._trial, cached=True
            )
        except MissingDependencyError as e:
            if wishes.plan_path is None:
                raise
            raise MissingDependencyError(
                e.package, e.extra, f"{wishes.plan_path}: the engine {self.engine_name}"
            ) from None
        if opened.signed is not None:
            from edgedet_runtime.bundle.trust import remember

            remember(opened.signed)
        self._preprocessor = Preprocessor(self.spec.input, self.spec.resize)
        self._model = place
        self._second: tuple[Preprocessor, Engine] | None = None
        self._one_thread = _OneThread()
        self.last_times: StageTimes | None = None

    def __reduce__(self) -> tuple[Callable[[], Detector], tuple[()]]:
        """Return how to load the same model with the same settings in another process."""
        limits = self.thresholds
        anew = partial(
            type(self),
            self._model.absolute(),
            engine=self.engine_name,
            precision=self.precision,
            threads=self.threads,
            conf=limits.conf,
            iou=limits.iou,
            max_det=limits.max_det,
            classes=None if self._wanted is None else np.flatnonzero(self._wanted).tolist(),
            multi_label=limits.multi_label,
            trial=self._trial,
        )
        return anew, ()

    def confirm(self) -> None:
        """Say that the installed bundle works here: it stays, see `edgedet_runtime.bundle.slots`.

        Call it when the program has done what it is for, such as after the first pictures. Does nothing where the model
        lies in no slots, or was confirmed before.

        Raises:
            CheckFailedError: Another bundle was installed since this one was started.
            InputError: The slots cannot be written.
        """
        if self._started is not None:
            from edgedet_runtime.bundle.slots import confirm

            confirm(self._started.folder, started=self._started.installed)

    @property
    def engine_name(self) -> EngineName:
        """Name of the engine."""
        return self.model_file.engine

    @property
    def precision(self) -> Precision:
        """``fp32`` or ``int8``."""
        return self.model_file.precision

    @property
    def plan(self) -> Plan:
        """Engine, precision and threads that run, whoever chose them."""
        return Plan(self.engine_name, self.precision, self.threads)

    def __call__(self, image_bgr: npt.NDArray[Any]) -> Detections:
        """Detect objects in a picture.

        Args:
            image_bgr: uint8, BGR (h, w, 3) as OpenCV gives it; also gray (h, w) or BGRA (h, w, 4).

        Returns:
            Objects in pixels of this picture, best first; arrays of their own.

        Raises:
            InputError: Not a picture.
            EngineError: The engine failed, or gave NaN.
            BusyError: Another thread is inside.
        """
        with self._one_thread:
            start = time.perf_counter()
            tensor, letterbox = self.preprocess(image_bgr)
            ready = time.perf_counter()
            raw = self.infer(tensor)
            done = time.perf_counter()
            detections = self.postprocess(raw, letterbox)
            end = time.perf_counter()
            self.last_times = StageTimes((ready - start) * 1e3, (done - ready) * 1e3, (end - done) * 1e3)
            return detections

    def stream(
        self, frames: Iterable[T], *, image: Callable[[T], npt.NDArray[Any]] | None = None
    ) -> Iterator[tuple[T, Detections]]:
        """Detect in frames one after the other, with more of them per second than calls give.

        While a frame is in the engine, the next is read from `frames` and prepared, and the one before is finished and
        lies with the caller. So a result comes when the next frame has been read: for a camera whose frames come more
        slowly than the engine takes, calls give each result sooner. `last_times` are those of the frame that came last.

        Args:
            frames: Pictures, or whatever `image` finds a picture in. Read one ahead, in the caller's thread.
            image: Returns a frame's picture, as calls take it; None: the frame is the picture.

        Yields:
            Each frame, in order, and what calling the detector would return for it.

        Raises:
            InputError: Not a picture. This and every other error comes after the results of the frames before.
            EngineError: The engine failed, or gave NaN.
            BusyError: Another thread is inside, or another stream is open. While this one is, calls are refused.
        """
        from edgedet_runtime.pipeline import overlapped

        with self._one_thread:
            lanes = self._lanes()
            self._one_thread.streaming = True

        def prepare(frame: T, lane: int) -> tuple[npt.NDArray[Any], Letterbox, float]:
            start = time.perf_counter()
            picture: Any = frame if image is None else image(frame)
            tensor, letterbox = lanes[lane][0](picture)
            return tensor, letterbox, (time.perf_counter() - start) * 1e3

        def run(
            prepared: tuple[npt.NDArray[Any], Letterbox, float], lane: int
        ) -> tuple[tuple[npt.NDArray[np.float32], ...], float]:
            start = time.perf_counter()
            raw = lanes[lane][1].infer(prepared[0])
            return raw, (time.perf_counter() - start) * 1e3

        def finish(
            frame: T,
            prepared: tuple[npt.NDArray[Any], Letterbox, float],
            result: tuple[tuple[npt.NDArray[np.float32], ...], float],
        ) -> tuple[T, Detections]:
            start = time.perf_counter()
            detections = self.postprocess(result[0], prepared[1])
            self.last_times = StageTimes(prepared[2], result[1], (time.perf_counter() - start) * 1e3)
            return frame, detections

        try:
            yield from overlapped(frames, prepare, run, finish)
        finally:
            self._one_thread.streaming = False

    def _lanes(self) -> tuple[tuple[Preprocessor, Engine], ...]:
        """Return the two sets of buffers between which a stream alternates; the second one is made once."""
        if self._second is None:
            self._second = Preprocessor(self.spec.input, self.spec.resize), self.engine.twin()
        return (self._preprocessor, self.engine), self._second

    def preprocess(self, image_bgr: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Letterbox]:
        """Return the input tensor, a buffer valid until the next call, and the picture's geometry."""
        with self._one_thread:
            return self._preprocessor(image_bgr)

    def infer(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Return the raw outputs in the order of the spec, buffers valid until the next call."""
        with self._one_thread:
            return self.engine.infer(tensor)

    def postprocess(self, raw: Sequence[npt.NDArray[np.float32]], letterbox: Letterbox) -> Detections:
        """Return the objects that raw outputs stand for, in pixels of the picture of `letterbox`."""
        return postprocess(raw, letterbox, self.spec, self.thresholds, wanted=self._wanted)

    def close(self) -> None:
        """Free the engine; the detector cannot be used any more.

        Raises:
            BusyError: Another thread is inside.
        """
        with self._one_thread:
            if self._second is not None:
                self._second[1].close()
            self.engine.close()

    def __enter__(self) -> Detector:
        """Return the detector itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        self.close()


class _OneThread:
    """A section of code that one thread at a time may be in; the same thread may enter it again.

    Attributes:
        streaming: Whether a stream is open, which nobody else may join.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.streaming = False

    def __enter__(self) -> None:
        """Enter, or refuse to.

        Raises:
            BusyError: Another thread is inside.
        """
        if not self._lock.acquire(blocking=False):
            raise BusyError(
                "detector: expected one thread at a time, since its buffers are reused, got a second one while the"
                " first is inside; make one Detector per thread, or hold a lock around each call"
            )
        if self.streaming:
            self._lock.release()
            raise BusyError(
                "detector: expected no call while a stream is open, since they share the engine; finish the stream or"
                " close it first"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def _start(model: Path) -> Started | None:
    """Return the bundle to start with, where a model is a folder with slots."""
    if not (model / STATE_FILE).is_file():
        return None
    from edgedet_runtime.bundle.slots import start

    return start(model)


def _open(model: str | Path, wishes: Wishes) -> OpenedModel:
    """Find the model file; where it is a stored plan that cannot be met, say so."""
    try:
        return open_model(model, engine=wishes.engine, precision=wishes.precision)
    except InputError as e:
        if wishes.plan_path is None:
            raise
        raise InputError(
            f"{wishes.plan_path}: its plan cannot be met: {e}; or measure again: edgedet profile {model} --save-plan"
        ) from None


def _thresholds(
    default: Thresholds, conf: float | None, iou: float | None, max_det: int | None, multi_label: bool | None
) -> Thresholds:
    for name, value in (("conf", conf), ("iou", iou)):
        if value is not None and not 0.0 <= value <= 1.0:
            raise ArgumentError(name, f"expected a number from 0 to 1, got {value}")
    if max_det is not None and max_det < 1:
        raise ArgumentError("max_det", f"expected a positive number, got {max_det}")
    return Thresholds(
        conf=default.conf if conf is None else conf,
        iou=default.iou if iou is None else iou,
        max_det=default.max_det if max_det is None else max_det,
        multi_label=default.multi_label if multi_label is None else multi_label,
        class_agnostic=default.class_agnostic,
    )


def _wanted(names: tuple[str, ...], classes: Iterable[int | str] | None) -> npt.NDArray[np.bool_] | None:
    """Return a mask over class ids, or None for all."""
    if classes is None:
        return None
    mask = np.zeros(len(names), np.bool_)
    for wish in [classes] if isinstance(classes, str) else classes:
        if isinstance(wish, str) and wish in names:
            mask[[i for i, name in enumerate(names) if name == wish]] = True
        elif not isinstance(wish, str) and 0 <= wish < len(names):
            mask[wish] = True
        else:
            known = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise ArgumentError("classes", f"expected ids 0..{len(names) - 1} or names ({known}), got {wish!r}")
    return mask
