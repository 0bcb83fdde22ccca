"""What runs on a board: it loads models, times them, and streams what it saw.

It needs Python 3.8 or newer, NumPy, and ai-edge-litert, tflite-runtime, or (with
`--runtime onnxruntime` and `worker_onnx.py` beside it) onnxruntime. It is started with
`python worker.py` and speaks JSON lines: one request a line on standard input, one or more
answers a line on standard output, all times in seconds of the board's monotonic clock.

    (on start)                                  {"hello": "boardfit worker", "protocol": 2,
                                                 "files": {NAME: SHA-256}, ...}
    {"do": "load", "model": ID, "data": [PIECE, ...]}
                                                {"loaded": ID, "seconds": 0.001}
                                                (a piece is BASE64, or [EXPONENT, START, COUNT]:
                                                 so many of `drawn`'s float32 numbers)
    {"do": "unload"}                            {"unloaded": COUNT}      (all models)
    {"do": "measure", "round": 3, "warmup": 1, "samples": 2, "visits": [[ID, REPEATS], ...]}
                                                {"visit": ID, "at": ..., "warmup": [...],
                                                 "seconds": [...]}       (one for each visit)
                                                {"done": 3, "wall": 0.81, "inside": 0.75,
                                                 "conditions": {...}}
    {"do": "predict", "model": ID, "inputs": [BASE64, ...]}
                                                {"outputs": [BASE64, ...]}   (float32)
    {"do": "placement", "model": ID}            {"outside": [[INDEX, NAME], ...] or null}
                                                (operators that the delegate did not take, or
                                                 null where the runtime does not tell)
    {"do": "operators", "model": ID, "runs": N} {"operators": [{"name": ..., "kind": ...,
                                                 "index": 0, "delegate": ..., "seconds": [...]},
                                                 ...], "profiled": [...], "plain": [...]}
    {"do": "conditions"}                        {"conditions": {"at": ..., ...}}
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
import contextlib
import functools
import gc
import hashlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Dict  # noqa: UP035 (Answer is evaluated, and dict[...] is not in 3.8)

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROTOCOL = 2
Answer = Dict[str, Any]  # noqa: UP006 (as above); a JSON object
FLUSH_SECONDS = 0.1  # answers are written in groups, to disturb the measurement little

POOL = 1 << 16  # different numbers that random weights are made of


def _pool() -> NDArray[np.float32]:
    """All 16-bit fractions in an order that looks random, as numbers between 1 and 2, or -2 and -1.

    Bits are mixed by steps that lose none, so that it is the same with any version of NumPy.
    """
    bits: NDArray[Any] = np.arange(POOL, dtype=np.uint32)
    for shift, factor in ((7, 0x9E3B), (9, 0x6A2D), (8, 0x352D)):
        bits ^= bits >> shift
        bits = (bits * factor) & (POOL - 1)
    bits ^= bits >> 8
    sign = (((bits * 0x9E3779B1) & 0xFFFFFFFF) >> 16) & 1
    return (sign << 31 | 0x3F800000 | bits << 7).astype(np.uint32).view(np.float32)


_NUMBERS = np.concatenate([_pool()] * 2)
_INPUTS = np.abs(_NUMBERS[:POOL]) * np.float32(0.5)  # between 0.5 and 1


def drawn(exponent: int, start: int, count: int) -> NDArray[np.float32]:
    """`count` random numbers, from place `start` of an endless row, times two to the `exponent`.

    Weights are made of them, so that a model travels without its weights: a board gets 14,000
    operators as megabytes, not as gigabytes.
    """
    start %= POOL
    if count > POOL:
        values = np.resize(_NUMBERS[start : start + POOL], count)
    else:
        values = _NUMBERS[start : start + count]
    scaled: NDArray[np.float32] = values * np.float32(2.0**exponent)
    return scaled


def _stored(values: NDArray[np.float32], tensor: Answer) -> NDArray[Any]:
    """Numbers as a tensor holds them: as integers where it is quantised."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values
    kind = np.iinfo(tensor["dtype"])
    numbers = np.clip(np.rint(values / np.float32(scale)) + zero_point, kind.min, kind.max)
    stored: NDArray[Any] = numbers.astype(tensor["dtype"])
    return stored


class LitertModel:
    """A model that is loaded, with random inputs in place."""

    def __init__(self, runtime: LitertRuntime, data: bytes, threads: int) -> None:
        self._runtime, self._data, self._threads = runtime, data, threads
        self._interpreter = runtime.interpreter(model_content=data, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        for tensor in self._inputs:
            dtype, shape = np.dtype(tensor["dtype"]), tuple(tensor["shape"])
            if dtype.kind == "f":
                values = np.resize(_INPUTS, shape).astype(dtype, copy=False)
            elif dtype.kind in "iu":
                values = (np.resize(_INPUTS, shape) > 0.75).astype(dtype)
            else:
                values = np.zeros(shape, dtype)
            self._interpreter.set_tensor(tensor["index"], values)
        self.invoke: Callable[[], object] = self._interpreter.invoke

    def predict(self, data: bytes) -> bytes:
        """One inference: float32 bytes in, float32 bytes of the first output out; of a quantised
        model the numbers that its integers stand for."""
        tensor, found = self._inputs[0], self._outputs[0]
        values = np.frombuffer(data, np.float32).reshape(tensor["shape"])
        self._interpreter.set_tensor(tensor["index"], _stored(values, tensor))
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(found["index"]).astype(np.float32)
        scale, zero_point = found["quantization"]
        if scale:
            output = (output - np.float32(zero_point)) * np.float32(scale)
        return np.ascontiguousarray(output).tobytes()

    def placement(self) -> list[list[Any]] | None:
        """Index and name of the operators that no delegate took, or None where nobody knows."""
        results = [tensor["index"] for tensor in self._outputs]
        try:
            found: list[list[Any]] = beside("worker_operators").outside(self._details(), results)
        except (AttributeError, KeyError, TypeError, ValueError):  # no part of the public API
            return None
        return found

    def operators(self, runs: int, clock: Callable[[], float]) -> Answer:
        """Times of each operator. Raises RuntimeError where the runtime cannot tell them."""
        if self._runtime.name != "ai-edge-litert":
            raise RuntimeError(
                f"this runtime cannot tell the times of operators: {self._runtime.name} has no "
                "profiler; install ai-edge-litert on the board, or go without"
            )
        answer: Answer = beside("worker_operators").operators(
            self._data,
            [self._interpreter.get_tensor(tensor["index"]).tobytes() for tensor in self._inputs],
            self._details(),
            self.invoke,
            version=self._runtime.version,
            threads=self._threads,
            runs=runs,
            clock=clock,
        )
        return answer

    def _details(self) -> Any:
        return self._interpreter._get_ops_details()


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
            self.interpreter = package.Interpreter
            self.name = name
            self.version = _version(name)
            return
        raise RuntimeError(
            "no runtime for TFLite models ({}); install ai-edge-litert".format("; ".join(tried))
        )

    def load(self, data: bytes, threads: int) -> LitertModel:
        """Build an interpreter for a model given as bytes."""
        return LitertModel(self, data, threads)


@functools.cache
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


def own_files() -> dict[str, str]:
    """The SHA-256 of this file and of those beside it: the host sees that they are whole."""
    folder = os.path.dirname(os.path.abspath(__file__))
    found = {}
    for name in ("worker.py", "worker_operators.py", "worker_onnx.py"):
        with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def _version(distribution: str) -> str:
    try:
        from importlib.metadata import version

        return version(distribution)
    except Exception:  # a runtime copied there without its metadata
        return "unknown"


class Worker:
    """The protocol, independent of what runs the models and of whose clock it is."""

    def __init__(
        self,
        runtime: Any,
        clock: Callable[[], float],
        threads: int,
        core: int | None,
        state: Callable[[], Answer] | None = None,
    ) -> None:
        self._runtime = runtime
        self._state = state or conditions
        self._clock = clock
        self._threads = threads
        self._core = core
        self._models: dict[str, Any] = {}
        self._began = clock()
        # Seconds in which there was nothing to do, or nobody took what there was to say; whoever
        # feeds us counts them.
        self.waited = 0.0

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
            "clock_resolution": resolution(self._clock),
            "files": own_files(),
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
            elif do == "placement":
                yield self._placement(request)
            elif do == "operators":
                yield self._operators(request)
            elif do == "conditions":
                yield {"conditions": self._conditions(self._clock())}
            else:
                yield {"error": f"unknown request {do!r}", "model": None}
        except Exception as error:  # whatever a runtime raises is reported, never fatal here
            model = request.get("model") if isinstance(request, dict) else None
            yield {"error": f"{type(error).__name__}: {error}", "model": model}

    def _load(self, request: Answer) -> Answer:
        begin = self._clock()
        data = b"".join(
            base64.b64decode(piece) if isinstance(piece, str) else drawn(*piece).tobytes()
            for piece in request["data"]
        )
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
        end = clock()
        yield {
            "done": request["round"],
            "wall": end - begin,
            "inside": inside,
            "conditions": self._conditions(end),
        }

    def _conditions(self, at: float) -> Answer:
        return {"at": at, "lived": at - self._began, "waited": self.waited, **self._state()}

    def _placement(self, request: Answer) -> Answer:
        model = self._models[request["model"]]
        return {"outside": model.placement() if hasattr(model, "placement") else None}

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


def resolution(clock: Callable[[], float]) -> float:
    """The smallest step of a clock in seconds, measured: readings that follow each other at once
    differ by a step, or by the time that reading takes. 0 where it does not move meanwhile."""
    steps = np.diff([clock() for _ in range(1000)])
    steps = steps[steps > 0]
    return float(steps.min()) if len(steps) else 0.0


def conditions() -> Answer:
    """What the board says about its state just now; what it does not say is left out."""
    found = {"uptime": _number("/proc/uptime"), "load": _number("/proc/loadavg")}
    base = "/sys/devices/system/cpu"
    core = sorted(os.sched_getaffinity(0))[0] if hasattr(os, "sched_getaffinity") else 0
    found["frequency"] = _number(f"{base}/cpu{core}/cpufreq/scaling_cur_freq", scale=1e3)
    found["temperature"] = _number("/sys/class/thermal/thermal_zone0/temp", scale=1e-3)
    pages = _number("/proc/self/statm", field=1)
    found["resident"] = None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")
    return {name: value for name, value in found.items() if value is not None}


def _number(path: str, scale: float = 1.0, field: int = 0) -> float | None:
    try:
        with open(path) as file:
            return float(file.read().split()[field]) * scale
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

    def flush() -> float:
        """Write the answers; return the seconds that this took."""
        begin = time.perf_counter()
        out.write(b"".join(pending))
        out.flush()
        pending.clear()
        return time.perf_counter() - begin

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
        send({"error": f"{type(error).__name__}: {error}", "model": None, "files": own_files()})
        flush()
        return 1
    send(worker.hello())
    flush()
    idle = time.perf_counter()
    for line in sys.stdin.buffer:
        worker.waited += time.perf_counter() - idle
        request = read_request(line)
        if isinstance(request, dict) and request.get("do") == "exit":
            break
        for answer in worker.answers(request):
            send(answer)
            if time.perf_counter() - last_flush > FLUSH_SECONDS:
                worker.waited += flush()
                last_flush = time.perf_counter()
        worker.waited += flush()
        idle = time.perf_counter()
    return 0


if __name__ == "__main__":
    sys.exit(main())
