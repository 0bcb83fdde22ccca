"""What runs on a board: it loads models, times them, and streams what it saw.

It needs Python 3.8 or newer, NumPy, and ai-edge-litert, tflite-runtime, or (with
`--runtime onnxruntime` and `worker_onnx.py` beside it) onnxruntime. It is started with
`python worker.py` and speaks JSON lines: one request a line on standard input, one or more
answers a line on standard output, all times in seconds of the board's monotonic clock.

    (on start)                                  {"hello": "boardfit worker", "protocol": 1, ...}
    {"do": "load", "model": ID, "data": BASE64} {"loaded": ID, "seconds": 0.001}
    {"do": "unload"}                            {"unloaded": COUNT}      (all models)
    {"do": "measure", "round": 3, "warmup": 1, "samples": 2, "visits": [[ID, REPEATS], ...]}
                                                {"visit": ID, "at": ..., "warmup": [...],
                                                 "seconds": [...]}       (one for each visit)
                                                {"done": 3, "wall": 0.81, "inside": 0.75}
    {"do": "predict", "model": ID, "inputs": [BASE64, ...]}
                                                {"outputs": [BASE64, ...]}   (float32)
    {"do": "operators", "model": ID, "runs": N} {"operators": [{"name": ..., "kind": ...,
                                                 "index": 0, "delegate": ..., "seconds": [...]},
                                                 ...], "profiled": [...], "plain": [...]}
    {"do": "conditions"}                        {"conditions": {...}}
    {"do": "exit"}                              (ends)
    (anything that fails)                       {"error": "in words", "model": ID or null}

All models stay alive together, so that visits to one of them can be spread over time: a board has
fast and slow states that last for seconds, and what is measured in one go agrees falsely. A visit
is a few warm-up inferences (reported apart) and a few samples, each the mean over REPEATS
inferences, so that short models fill the clock's resolution.
"""

from __future__ import annotations

import argparse
import base64
import gc
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Dict  # noqa: UP035 (Answer is evaluated, and dict[...] is not in 3.8)

import numpy as np

PROTOCOL = 1
Answer = Dict[str, Any]  # noqa: UP006 (as above); a JSON object
FLUSH_SECONDS = 0.1  # answers are written in groups, to disturb the measurement little


class LitertModel:
    """A model that is loaded, with random inputs in place."""

    def __init__(self, interpreter_class: Any, data: bytes, threads: int) -> None:
        self._interpreter = interpreter_class(model_content=data, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        rng = np.random.default_rng(0)
        for tensor in self._inputs:
            dtype, shape = np.dtype(tensor["dtype"]), tuple(tensor["shape"])
            if dtype.kind == "f":
                values = rng.random(shape).astype(dtype)
            elif dtype.kind in "iu":
                values = rng.integers(0, 2, shape).astype(dtype)
            else:
                values = np.zeros(shape, dtype)
            self._interpreter.set_tensor(tensor["index"], values)
        self.invoke: Callable[[], object] = self._interpreter.invoke

    def predict(self, data: bytes) -> bytes:
        """One inference: float32 bytes in, float32 bytes of the first output out."""
        tensor = self._inputs[0]
        values = np.frombuffer(data, np.float32).reshape(tensor["shape"])
        self._interpreter.set_tensor(tensor["index"], values)
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._outputs[0]["index"])
        return np.ascontiguousarray(output, np.float32).tobytes()


class LitertRuntime:
    """LiteRT, or its predecessor tflite-runtime, whichever is installed."""

    def __init__(self, wanted: str) -> None:
        tried = []
        for name, module in (
            ("ai-edge-litert", "ai_edge_litert"),
            ("tflite-runtime", "tflite_runtime"),
        ):
            if wanted not in ("auto", name):
                continue
            try:
                package = __import__(module + ".interpreter", fromlist=["Interpreter"])
            except Exception as error:  # a wheel for another libc or NumPy fails in many ways
                tried.append(f"{name}: {error}")
                continue
            self._interpreter = package.Interpreter
            self.name = name
            self.version = _version(name)
            return
        raise RuntimeError(
            "no runtime for TFLite models ({}); install ai-edge-litert".format("; ".join(tried))
        )

    def load(self, data: bytes, threads: int) -> LitertModel:
        """Build an interpreter for a model given as bytes."""
        return LitertModel(self._interpreter, data, threads)


def beside(name: str) -> Any:
    """The module in the file of that name that lies beside this one.

    By its place: the folder of this file is not always on Python's path.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _version(distribution: str) -> str:
    try:
        from importlib.metadata import version

        return version(distribution)
    except Exception:  # a runtime copied there without its metadata
        return "unknown"


class Worker:
    """The protocol, independent of what runs the models and of whose clock it is."""

    def __init__(
        self, runtime: Any, clock: Callable[[], float], threads: int, core: int | None
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._threads = threads
        self._core = core
        self._models: dict[str, Any] = {}

    def hello(self) -> Answer:
        """The first line: who answers, with which runtime."""
        return {
            "hello": "boardfit worker",
            "protocol": PROTOCOL,
            "runtime": self._runtime.name,
            "version": self._runtime.version,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "threads": self._threads,
            "core": self._core,
        }

    def answers(self, request: Any) -> Iterator[Answer]:
        """Yield the answers to one request (a dictionary); errors are answers too."""
        do = request.get("do") if isinstance(request, dict) else None
        try:
            if do == "load":
                yield self._load(request)
            elif do == "unload":
                yield {"unloaded": len(self._models)}
                self._models.clear()
                gc.collect()
            elif do == "measure":
                yield from self._measure(request)
            elif do == "predict":
                model = self._models[request["model"]]
                inputs = [base64.b64decode(data) for data in request["inputs"]]
                yield {"outputs": [_text(model.predict(data)) for data in inputs]}
            elif do == "operators":
                yield self._operators(request)
            elif do == "conditions":
                yield {"conditions": conditions()}
            else:
                yield {"error": f"unknown request {do!r}", "model": None}
        except Exception as error:  # whatever a runtime raises is reported, never fatal here
            model = request.get("model") if isinstance(request, dict) else None
            yield {"error": f"{type(error).__name__}: {error}", "model": model}

    def _load(self, request: Answer) -> Answer:
        begin = self._clock()
        data = base64.b64decode(request["data"])
        self._models[request["model"]] = self._runtime.load(data, self._threads)
        return {"loaded": request["model"], "seconds": self._clock() - begin}

    def _measure(self, request: Answer) -> Iterator[Answer]:
        clock = self._clock
        warmup, samples = int(request["warmup"]), int(request["samples"])
        begin, inside = clock(), 0.0
        gc.disable()  # a collection would land in somebody's sample
        try:
            for model_id, repeats in request["visits"]:
                invoke = self._models[model_id].invoke
                at = clock()
                warm = []
                for _ in range(warmup):
                    start = clock()
                    invoke()
                    warm.append(clock() - start)
                seconds = []
                for _ in range(samples):
                    start = clock()
                    for _ in range(repeats):
                        invoke()
                    seconds.append((clock() - start) / repeats)
                inside += sum(warm) + sum(seconds) * repeats
                yield {"visit": model_id, "at": at, "warmup": warm, "seconds": seconds}
        finally:
            gc.enable()
        yield {"done": request["round"], "wall": clock() - begin, "inside": inside}

    def _operators(self, request: Answer) -> Answer:
        model = self._models[request["model"]]
        if not hasattr(model, "operators"):
            raise RuntimeError(f"{self._runtime.name} does not tell the times of operators")
        answer: Answer = model.operators(int(request["runs"]), self._clock)
        return answer


def open_runtime(wanted: str) -> Any:
    """The runtime of that name. Raises RuntimeError where it is not installed."""
    if wanted.partition(":")[0] != "onnxruntime":
        return LitertRuntime(wanted)
    return beside("worker_onnx").OnnxRuntime(wanted)


def read_request(line: bytes) -> Any:
    """The request that a line holds; one that is not JSON becomes a request nobody knows."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"do": f"a line that is not JSON ({error})"}


def conditions() -> Answer:
    """What the board says about its state just now; what it does not say is left out."""
    found = {"uptime": _number("/proc/uptime"), "load": _number("/proc/loadavg")}
    base = "/sys/devices/system/cpu"
    core = sorted(os.sched_getaffinity(0))[0] if hasattr(os, "sched_getaffinity") else 0
    found["frequency"] = _number(f"{base}/cpu{core}/cpufreq/scaling_cur_freq", scale=1e3)
    found["temperature"] = _number("/sys/class/thermal/thermal_zone0/temp", scale=1e-3)
    return {name: value for name, value in found.items() if value is not None}


def _number(path: str, scale: float = 1.0) -> float | None:
    try:
        with open(path) as file:
            return float(file.read().split()[0]) * scale
    except (OSError, ValueError, IndexError):
        return None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def main() -> int:
    parser = argparse.ArgumentParser(description="boardfit's worker; started by boardfit")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--core", type=int, default=-1, help="pin to this core (-1: do not pin)")
    options = parser.parse_args()
    # The runtime's own messages go to standard error; standard output is ours alone.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pending: list[bytes] = []
    last_flush = time.perf_counter()

    def send(answer: Answer) -> None:
        pending.append(json.dumps(answer).encode() + b"\n")

    def flush() -> None:
        out.write(b"".join(pending))
        out.flush()
        pending.clear()

    try:
        core = None
        if options.core >= 0:
            os.sched_setaffinity(0, {options.core})
            core = options.core
            if os.sched_getaffinity(0) != {core}:
                raise RuntimeError(f"the system did not pin the worker to core {core}")
        runtime = open_runtime(options.runtime)
        worker = Worker(runtime, time.perf_counter, options.threads, core)
    except Exception as error:
        send({"error": f"{type(error).__name__}: {error}", "model": None})
        flush()
        return 1
    send(worker.hello())
    flush()
    for line in sys.stdin.buffer:
        request = read_request(line)
        if isinstance(request, dict) and request.get("do") == "exit":
            break
        for answer in worker.answers(request):
            send(answer)
            if time.perf_counter() - last_flush > FLUSH_SECONDS:
                flush()
                last_flush = time.perf_counter()
        flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
