"""A board that is not there: the real worker on simulated time, for tests and for trying out.

Latencies follow a roofline with the staircase over channels that real kernels have, with noise
that depends only on the seed, the model and the round: a build that was interrupted and continued
sees the same values as one that was not. Outputs (`predict`) are real where LiteRT is installed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices.fake import ProgramExit, SimulatedClock
from .read_tflite import OperatorInfo, inspect
from .worker import LitertModel, LitertRuntime, Worker, read_request

SECONDS_PER_MAC = 1 / 8e9
SECONDS_PER_BYTE = 1 / 6e9
SECONDS_PER_OPERATOR = 0.8e-6
INT8_SPEEDUP = 3.0  # of the arithmetic
SECONDS_PER_INT8_HARD_SWISH = 5e-9  # an element; as in LiteRT, outside of the fast kernels
CHANNEL_STEP = 8  # kernels work on vectors: a width of 9 costs as much as one of 16
FREQUENCY = 1.5e9  # Hz, of the simulated core
SECONDS_PER_INVOKE = 1e-6
SECONDS_PER_EVENT = 0.4e-6  # that the simulated profiler takes to write down an operator
REFUSED = frozenset({("resize_bilinear", "float32"), ("hard_swish", "int8")})  # by its delegate
DELEGATE = "simulated"
TICK = 2.0**-36  # seconds; whole ticks add up exactly, so no value depends on when it was taken


def simulated_seconds(data: bytes) -> float:
    """Seconds that the simulated board takes for a TFLite model, without noise."""
    return SECONDS_PER_INVOKE + sum(
        _operator_seconds(operator) for operator in inspect(data).operators
    )


def _refused(operator: OperatorInfo) -> bool:
    return (operator.name, operator.dtype) in REFUSED


def _operator_seconds(operator: OperatorInfo) -> float:
    """A roofline: arithmetic or memory, whichever is slower, plus a constant."""
    output = operator.outputs[0] if operator.outputs else ()
    channels = output[-1] if output else 1
    staircase = math.ceil(channels / CHANNEL_STEP) * CHANNEL_STEP / channels
    elements = sum(math.prod(shape) for shape in (*operator.inputs, output))
    macs = 0.0
    if operator.name in {"conv_2d", "fully_connected"}:
        macs = operator.parameters * math.prod(output[:-1])
    elif operator.name == "depthwise_conv_2d":
        macs = 3.0 * operator.parameters * math.prod(output[:-1])  # reuses little
    arithmetic = macs * staircase * SECONDS_PER_MAC
    size = 4
    if operator.dtype == "int8":
        size = 1
        arithmetic /= INT8_SPEEDUP
        if operator.name == "hard_swish":
            arithmetic = math.prod(output) * SECONDS_PER_INT8_HARD_SWISH
    memory = size * (elements + operator.parameters) * SECONDS_PER_BYTE
    return SECONDS_PER_OPERATOR + max(arithmetic, memory)


@dataclass(frozen=True)
class Throttling:
    """A board that becomes slower under load: from `after` seconds of a worker's life on, within
    `ramp` seconds, up to `slowdown` times. `tells`: its frequency can be read, and falls alike."""

    after: float
    slowdown: float
    ramp: float = 0.0
    tells: bool = True

    def factor(self, seconds: float) -> float:
        """How much slower than cold it is after so many seconds."""
        reached = min(1.0, (seconds - self.after) / self.ramp) if self.ramp else 1.0
        return 1.0 + (self.slowdown - 1.0) * reached if seconds > self.after else 1.0


NO_THROTTLING = Throttling(after=math.inf, slowdown=1.0)


class SimulatedRuntime:
    """Loads anything that is a TFLite model, and lets simulated time pass for it.

    A tenth of the visits meet the board in a slow state (1.4 times slower), each inference has
    `noise` (relative standard deviation) on top.
    """

    name = "simulated"
    version = "1"

    def __init__(
        self,
        clock: SimulatedClock,
        seed: int,
        noise: float,
        throttling: Throttling = NO_THROTTLING,
    ) -> None:
        self.clock = clock
        self.throttling = throttling
        self.seed = seed
        self.noise = noise
        self.round = 0

    @property
    def slowdown(self) -> float:
        """How much slower the board is just now than when it is cold."""
        return self.throttling.factor(self.clock.now() - self.clock.start)

    def conditions(self) -> dict[str, Any]:
        """The simulated board's state: its temperature, and its frequency where it tells it."""
        state = {"temperature": 40.0 + 40.0 * (1 - 1 / self.slowdown)}
        if self.throttling.tells:
            state["frequency"] = FREQUENCY / self.slowdown
        return state

    def pass_time(self, seconds: float) -> None:
        """Let whole ticks pass, at least one."""
        self.clock.advance(max(1, round(seconds / TICK)) * TICK)

    def load(self, data: bytes, threads: int) -> _SimulatedModel:
        """Read the model; 1 ms passes."""
        self.pass_time(1e-3)
        return _SimulatedModel(self, data)


class _SimulatedModel:
    def __init__(self, runtime: SimulatedRuntime, data: bytes) -> None:
        self._runtime = runtime
        self._data = data
        self._digest = int(hashlib.sha256(data).hexdigest()[:12], 16)
        self._seconds = simulated_seconds(data)
        self._round = -1
        self._rng = np.random.default_rng(0)
        self._state = 1.0
        self._real: LitertModel | None = None

    def invoke(self) -> None:
        runtime = self._runtime
        if self._round != runtime.round:
            self._round = runtime.round
            self._rng = np.random.default_rng([runtime.seed, self._digest, self._round])
            self._state = 1.4 if self._rng.random() < 0.1 else 1.0
        noise = 1.0 + runtime.noise * abs(self._rng.normal())
        runtime.pass_time(self._seconds * self._state * noise * runtime.slowdown)

    def placement(self) -> list[list[Any]]:
        found = inspect(self._data).operators
        return [[index, o.name] for index, o in enumerate(found) if _refused(o)]

    def operators(self, runs: int, clock: Callable[[], float]) -> dict[str, Any]:
        """Times of each operator with noise of their own, and whole runs around them."""
        rng = np.random.default_rng([self._runtime.seed, self._digest, runs])
        found = inspect(self._data).operators
        alone = np.array([_operator_seconds(operator) for operator in found])
        noise = 1.0 + self._runtime.noise * np.abs(rng.normal(size=(runs, len(found))))
        inside = alone * noise * self._runtime.slowdown
        profiled, plain = [], []
        for times in inside:
            start = clock()
            self._runtime.pass_time(
                SECONDS_PER_INVOKE + SECONDS_PER_EVENT * len(found) + float(times.sum())
            )
            profiled.append(clock() - start)
            start = clock()
            self.invoke()
            plain.append(clock() - start)
        rows = [
            {
                "name": operator.name,
                "kind": operator.name,
                "index": index,
                "delegate": None if _refused(operator) else DELEGATE,
                "seconds": inside[:, index].tolist(),
            }
            for index, operator in enumerate(found)
        ]
        return {"operators": rows, "profiled": profiled, "plain": plain}

    def predict(self, data: bytes) -> bytes:
        if self._real is None:
            self._real = LitertRuntime("auto").load(self._data, 1)
        return self._real.predict(data)


class SimulatedWorker:
    """The program that the fake board runs: `worker.Worker` without a process.

    `clock` makes the one that it runs on.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        noise: float = 0.01,
        throttling: Throttling = NO_THROTTLING,
        clock: Callable[[], SimulatedClock] = SimulatedClock,
    ) -> None:
        self._runtime = SimulatedRuntime(clock(), seed, noise, throttling)
        self._worker = Worker(
            self._runtime, self._runtime.clock.now, 1, 0, state=self._runtime.conditions
        )

    def start(self) -> Iterator[bytes]:
        """The worker's hello."""
        yield _line(self._worker.hello())

    def handle(self, line: bytes) -> Iterator[bytes]:
        """The answers to one request line; ends where it asks for that."""
        request = read_request(line)
        if isinstance(request, dict):
            if request.get("do") == "exit":
                raise ProgramExit
            if isinstance(request.get("round"), int):
                self._runtime.round = request["round"]
        for answer in self._worker.answers(request):
            yield _line(answer)


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()
