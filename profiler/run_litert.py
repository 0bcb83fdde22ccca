"""One worker process on a board, driven over one channel: load models, visit them, predict.

The host never times anything. Whatever the worker does wrong (it dies, hangs, prints something
else) ends in one named error that says what to do next.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..devices.base import Channel, Device
from ..devices.errors import DeviceLost, DeviceTimeout, WorkerError
from .layers import FloatArray
from .worker import PROTOCOL

WORKER_FILE = Path(__file__).with_name("worker.py")
WORKER_FILES = (WORKER_FILE, WORKER_FILE.with_name("worker_onnx.py"))  # all that lies on a board
_LARGEST = 1e300  # of any number that a worker may say
ANSWER_TIMEOUT = 60.0  # seconds; a visit takes milliseconds, a slow board seconds


@dataclass(frozen=True)
class Model:
    """A model under the name that its samples are recorded by; `emit` gives its bytes,
    which are only needed while it is sent."""

    key: str
    emit: Callable[[], bytes]


@dataclass(frozen=True)
class Visit:
    """What one visit to a model gave: warm-up inferences apart, each sample in seconds per
    inference; `at` is the board's monotonic clock."""

    key: str
    at: float
    warmup: tuple[float, ...]
    seconds: tuple[float, ...]
    repeats: int


@dataclass(frozen=True)
class Round:
    """The end of a round: seconds it took on the board, and seconds inside of inferences."""

    wall: float
    inside: float


class WorkerSession:
    """A fresh worker process on a board; a context manager that ends it.

    `hello` is what it said about itself (runtime, version, threads, core). Raises `WorkerError`
    where it cannot start.
    """

    def __init__(self, device: Device, *, threads: int = 1, runtime: str = "auto") -> None:
        self._device = device
        self._loaded: set[str] = set()
        self._channel = self._start(threads, runtime)
        try:
            self.hello = self._answer()
            if "error" in self.hello:
                raise WorkerError(
                    f"the worker cannot start on {device.name}: {self.hello['error']}"
                )
            if self.hello.get("hello") != "boardfit worker":
                raise self._foreign(json.dumps(self.hello))
            if self.hello.get("protocol") != PROTOCOL:
                raise WorkerError(
                    f"the worker on {device.name} speaks protocol {self.hello.get('protocol')}, "
                    f"this boardfit speaks {PROTOCOL}; remove {device.workspace} there and run "
                    "the same command again"
                )
            said = str(self.hello.get("runtime"))
            if runtime != "auto" and said.partition(":")[0] != runtime.partition(":")[0]:
                raise WorkerError(
                    f"{device.name} runs models in {said}, not in {runtime}; give --runtime "
                    f"{said}, or choose another board"
                )
        except BaseException:
            self._channel.close()
            raise

    def _start(self, threads: int, runtime: str) -> Channel:
        content = hashlib.sha256(b"".join(file.read_bytes() for file in WORKER_FILES))
        folder = self._device.workspace / PurePosixPath(f"worker-{content.hexdigest()[:16]}")
        for file in WORKER_FILES:
            self._device.transport.push(file, folder / file.name)
        remote = str(folder / WORKER_FILE.name)
        argv = [self._device.python, remote, "--runtime", runtime, "--threads", str(threads)]
        if self._device.core is not None and threads == 1:  # several threads need several cores
            argv += ["--core", str(self._device.core)]
        return self._device.transport.open(argv)

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *reason: object) -> None:
        self._channel.close()

    def load(self, models: Iterable[Model]) -> Iterator[str]:
        """Load the models that are not loaded yet; yield the key of each as it is ready.

        Raises `WorkerError` with the runtime's own words where it refuses a model, also where it
        dies of it.
        """
        for model in models:
            if model.key not in self._loaded:
                data = base64.b64encode(model.emit()).decode("ascii")
                self._send({"do": "load", "model": model.key, "data": data})
                try:
                    answer = self._answer()
                except DeviceLost as error:
                    raise WorkerError(
                        f"the runtime on {self._device.name} ended while it loaded {model.key} "
                        f"({error}); the model may be damaged, or need operators that this "
                        "runtime does not have"
                    ) from error
                self._expect(answer, "loaded", f"cannot load {model.key}")
                self._loaded.add(model.key)
            yield model.key

    def unload(self) -> None:
        """Free all models, to stay within the board's memory."""
        if self._loaded:
            self._send({"do": "unload"})
            self._expect(self._answer(), "unloaded", "cannot unload")
            self._loaded.clear()

    def measure(
        self,
        visits: Sequence[tuple[str, int]],
        *,
        number: int = 0,
        warmup: int = 1,
        samples: int = 2,
    ) -> Iterator[Visit | Round]:
        """Visit loaded models in the given order; yield each `Visit`, then one `Round`.

        `visits` are pairs of key and repeats (inferences a sample). The worker interleaves, times
        and streams; `number` names the round.
        """
        self._send(
            {
                "do": "measure",
                "round": number,
                "warmup": warmup,
                "samples": samples,
                "visits": [list(visit) for visit in visits],
            }
        )
        for key, repeats in visits:
            answer = self._answer()
            self._expect(answer, "visit", f"cannot measure {key}")
            yield self._visit(answer, key, repeats, warmup, samples)
        answer = self._answer()
        self._expect(answer, "done", "cannot finish the round")
        try:
            wall, inside = _numbers([answer["wall"], answer["inside"]])
        except (KeyError, TypeError, ValueError):
            raise self._foreign(json.dumps(answer)) from None
        yield Round(wall, inside)

    def predict(self, key: str, images: FloatArray, *, batch: int = 64) -> FloatArray:
        """Run a loaded model on images `[n, ...]` one by one; return its outputs `[n, values]`.

        There must be at least one image. Raises `WorkerError` where the runtime refuses them.
        """
        outputs: list[FloatArray] = []
        for begin in range(0, len(images), batch):
            group = np.ascontiguousarray(images[begin : begin + batch], np.float32)
            inputs = [base64.b64encode(image.tobytes()).decode("ascii") for image in group]
            self._send({"do": "predict", "model": key, "inputs": inputs})
            answer = self._answer()
            self._expect(answer, "outputs", f"cannot run {key}")
            try:
                texts = list(answer["outputs"])
                outputs += [np.frombuffer(base64.b64decode(text), np.float32) for text in texts]
                if len(texts) != len(group) or len({len(output) for output in outputs}) != 1:
                    raise ValueError("as many outputs as images, all of one size, were expected")
            except (TypeError, ValueError):
                raise self._foreign(json.dumps(answer)) from None
        return np.stack(outputs)

    def conditions(self) -> dict[str, float]:
        """The board's state just now: frequency in Hz, temperature in degrees Celsius, load."""
        self._send({"do": "conditions"})
        answer = self._answer()
        self._expect(answer, "conditions", "cannot read the board's state")
        try:
            found = dict(answer["conditions"])
            return dict(zip(map(str, found), _numbers(found.values()), strict=True))
        except (TypeError, ValueError):
            raise self._foreign(json.dumps(answer)) from None

    def _send(self, request: dict[str, Any]) -> None:
        self._channel.send(json.dumps(request).encode())

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._channel.receive(timeout=ANSWER_TIMEOUT)
        except DeviceTimeout:
            raise WorkerError(
                f"the worker on {self._device.name} has not answered for {ANSWER_TIMEOUT:.0f} s "
                "and was ended; what was measured is kept: run the same command again to go on"
            ) from None
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._foreign(line.decode(errors="replace")) from None
        if not isinstance(answer, dict):
            raise self._foreign(line.decode(errors="replace"))
        return answer

    def _expect(self, answer: dict[str, Any], field: str, what: str) -> None:
        if "error" in answer:
            raise WorkerError(f"{what} on {self._device.name}: {answer['error']}")
        if field not in answer:
            raise self._foreign(json.dumps(answer))

    def _visit(
        self, answer: dict[str, Any], key: str, repeats: int, warmup: int, samples: int
    ) -> Visit:
        try:
            (at,) = _numbers([answer["at"]])
            visit = Visit(
                answer["visit"],
                at,
                _numbers(answer["warmup"]),
                _numbers(answer["seconds"]),
                repeats,
            )
        except (KeyError, TypeError, ValueError):
            raise self._foreign(json.dumps(answer)) from None
        complete = (len(visit.warmup), len(visit.seconds)) == (warmup, samples)
        # No inference takes no time: a zero would be a clock that stands still.
        if visit.key != key or not complete or min(0, *visit.warmup) < 0 or min(visit.seconds) <= 0:
            raise self._foreign(json.dumps(answer))
        return visit

    def _foreign(self, line: str) -> WorkerError:
        return WorkerError(
            f"the worker on {self._device.name} broke its protocol with the line {line[:200]!r}; "
            "what was measured is kept: run the same command again to go on"
        )


def _numbers(values: Iterable[object]) -> tuple[float, ...]:
    """Finite numbers from JSON. Raises ValueError or TypeError where one is something else."""
    found = []
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{value!r} is not a number")
        if not abs(value) <= _LARGEST:  # also not NaN
            raise ValueError(f"{value!r} is not a finite number")
        found.append(float(value))
    return tuple(found)
