"""One side of `bench_whole_frame`: ``SIDE MODEL ENGINE THREADS FRAMES``, then a line of JSON for each block of frames.

SIDE is ``detector`` (`Detector`, from frame to objects), ``stream`` (`Detector.stream`, always back to back), or a way
to run the bare engine over one tensor that never changes: ``spinning`` and ``sleeping`` (onnxruntime's own default;
threads that sleep between operators), ``pinned`` and ``free`` (OpenVINO's own default; threads that go where the
scheduler puts them). FRAMES is an .npy file of frames.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from edgedet_runtime.engines import EngineName

BARE_WAYS = {"onnxruntime": ("spinning", "sleeping"), "openvino": ("pinned", "free")}


def main() -> None:
    """Load, answer after the first frame, then run blocks."""
    side, model, engine, threads, frames_file = sys.argv[1:]
    import numpy as np

    frames = np.load(frames_file)
    ours = side in ("detector", "stream")
    run = detector(model, engine, int(threads)) if ours else bare(side, model, int(threads))
    run(frames[0])
    answer({"first": time.monotonic(), "resident_mb": resident_mb()})
    for line in sys.stdin:
        order = json.loads(line)
        if side == "stream":
            answer(streamed(run, frames, order["frames"]))
        else:
            answer(block(run, frames, order["frames"], order["fps"]))


def detector(model: str, engine: str, threads: int) -> Callable[[Any], object]:
    """Return `Detector` on a file."""
    from edgedet_runtime import Detector

    return Detector(model, engine=cast("EngineName", engine), threads=threads)


def bare(way: str, model: str, threads: int) -> Callable[[Any], object]:
    """Return a plain loop's body: the engine alone, its input in place, its outputs where the engine puts them."""
    import numpy as np

    if way in BARE_WAYS["onnxruntime"]:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if way == "spinning" else "0")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        kind = np.uint8 if given.type == "tensor(uint8)" else np.float32
        tensor = np.random.default_rng(0).integers(0, 256, given.shape).astype(kind)
        return lambda _frame: session.run(None, {given.name: tensor})
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # sends nothing
    import openvino as ov

    # float32 as in Detector: left alone, OpenVINO computes in bfloat16 on some processors, which is another result
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    settings["ENABLE_CPU_PINNING"] = way == "pinned"
    compiled = ov.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    place = request.get_input_tensor().data
    place[:] = np.random.default_rng(0).integers(0, 256, place.shape)
    return lambda _frame: request.infer()


def block(run: Callable[[Any], object], frames: Any, count: int, fps: float) -> dict[str, Any]:
    """Return the latency of `count` frames after an uncounted one, and the CPU time per frame, in milliseconds.

    Frames come at `fps`, or back to back where that is 0.
    """
    run(frames[0])
    latency = []
    used, begin = time.process_time(), time.perf_counter()
    for number in range(count):
        if fps:
            time.sleep(max(0.0, begin + (number + 1) / fps - time.perf_counter()))
        start = time.perf_counter()
        run(frames[number % len(frames)])
        latency.append((time.perf_counter() - start) * 1e3)
    return {"ms": latency, "cpu_ms": (time.process_time() - used) * 1e3 / count}


def streamed(detect: Any, frames: Any, count: int) -> dict[str, Any]:
    """Return the time from result to result of `count` frames, and the CPU time per frame, in milliseconds."""
    moments: list[float] = []
    used = 0.0
    for _ in detect.stream(frames[number % len(frames)] for number in range(count + 1)):
        if not moments:
            used = time.process_time()
        moments.append(time.perf_counter())
    gaps = [(after - before) * 1e3 for before, after in pairwise(moments)]
    return {"ms": gaps, "cpu_ms": (time.process_time() - used) * 1e3 / count}


def resident_mb() -> float:
    """Return the process's resident memory, in MB of 10^6 bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def answer(document: object) -> None:
    """Write one answer."""
    sys.stdout.write("ANSWER " + json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
