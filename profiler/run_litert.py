"""One worker process on a board, driven over one channel: load models, visit them, predict.

The host never times anything. Whatever the worker does wrong (it dies, hangs, prints something
else) ends in one named error that says what to do next.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..devices.base import Channel, Device
from ..devices.errors import (
    CommandFailed,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    WorkerError,
    WorkerLost,
)
from .compact import compact
from .layers import FloatArray
from .operators import OperatorProfile, Placement, read_operators, read_placement
from .under_way import UnderWay
from .visits import Model, Round, Streams, Visit, VisitRequest, finite_numbers, read_visit
from .worker import PROTOCOL
from .worker_files import WORKER_FILE, WORKER_FILES, worker_digests, worker_folder

_COARSEST_CLOCK = 1e-3  # seconds; no board is that bad, and a sample must end
ANSWER_TIMEOUT = 60.0  # seconds; a visit takes milliseconds, a slow board seconds
_NOTHING: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
SLOWEST_INFERENCE = 20.0  # seconds; whoever answers an inference later is taken for lost


class WorkerSession(Streams):
    """A fresh worker process on a board; a context manager that ends it.

    `hello` is what it said about itself (runtime, version, threads, core), `loaded` are the keys
    of the models that it holds. Raises `WorkerError` where it cannot start.
    """

    reference_interval = 100  # a visit takes a millisecond or so
    most_samples = 1_000_000

    def __init__(self, device: Device, *, threads: int = 1, runtime: str = "auto") -> None:
        self._device = device
        self.loaded: set[str] = set()
        self._broken = False  # no answer can be expected any more
        self._latest = -math.inf  # the board's time of the last visit
        self._channel = self._start(threads, runtime)
        try:
            self.hello = self._answer()
            wanted = worker_digests()
            if self.hello.get("files", wanted) != wanted:  # what lies there was changed
                self._channel.close()
                self._channel = self._start(threads, runtime, push=True)
                self.hello = self._answer()
            if self.hello.get("files", wanted) != wanted:
                raise WorkerError(
                    f"the worker's files did not arrive whole on {device.name}: remove "
                    f"{device.workspace / worker_folder()} there, see whether its disk is full or "
                    "damaged, and run the same command again"
                )
            if "error" in self.hello:
                raise WorkerError(
                    f"the worker cannot start on {device.name}: {self.hello['error']}"
                )
            if self.hello.get("hello") != "boardfit worker":
                raise self._foreign(_words(self.hello))
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

    def _start(self, threads: int, runtime: str, *, push: bool = False) -> Channel:
        """Start the worker; its files are pushed where they are not there, or `push` says so."""
        if self._device.python is None:
            raise DeviceError(
                f"{self._device.name} has no Python that the worker could run in; give "
                "--benchmark-model PATH, or name an interpreter as `python` in boards.toml (Termux "
                "on Android has one)"
            )
        folder = self._device.workspace / worker_folder()
        if push or not self._is_there(folder / WORKER_FILES[-1].name):
            for file in WORKER_FILES:
                self._device.transport.push(file, folder / file.name)
            with contextlib.suppress(CommandFailed):  # a board without `chmod` has one user
                self._device.transport.run(["chmod", "700", str(folder)], timeout=ANSWER_TIMEOUT)
        remote = str(folder / WORKER_FILE.name)
        argv = [self._device.python, remote, "--runtime", runtime, "--threads", str(threads)]
        if self._device.core is not None and threads == 1:  # several threads need several cores
            argv += ["--core", str(self._device.core)]
        return self._device.transport.open(argv)

    def _is_there(self, remote: PurePosixPath) -> bool:
        """Whether the file that is pushed last lies on the board."""
        try:
            done = self._device.transport.run(["test", "-f", str(remote)], timeout=ANSWER_TIMEOUT)
        except CommandFailed:
            return False
        return done.code == 0

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *reason: object) -> None:
        self._channel.close()

    @property
    def clock_resolution(self) -> float:
        """The smallest step of the board's clock, in seconds; 0 where it is not known."""
        try:
            (step,) = finite_numbers([self.hello.get("clock_resolution", 0.0)])
        except (TypeError, ValueError, OverflowError):
            raise self._foreign(_words(self.hello)) from None
        return min(max(0.0, step), _COARSEST_CLOCK)

    def load(self, models: Iterable[Model]) -> Iterator[str]:
        """Load the models that are not loaded yet; yield the key of each as it is ready.

        Raises what `stream` raises.
        """
        for answer in self.stream(models):
            assert isinstance(answer, str)
            yield answer

    def load_one(self, model: Model) -> None:
        """Load one model. Raises what `load` raises."""
        for _ in self.load([model]):
            pass

    def unload(self) -> None:
        """Free all models, to stay within the board's memory."""
        if self.loaded:
            self._send({"do": "unload"})
            self._expect(self._answer(), "unloaded", "cannot unload")
            self.loaded.clear()

    def stream(
        self,
        requests: Iterable[Model | VisitRequest | None],
        *,
        warmup: int = 1,
        samples: int = 2,
    ) -> Iterator[str | Visit | Round]:
        """Answer one request after the other, and send the next ones while the worker is busy.

        A model is loaded where it is not yet, and answered by its key; a `VisitRequest` is answered
        by its visits and a `Round`. Requests are taken late, so that they may depend on answers,
        and None says that what comes next depends on answers that have not come yet. Raises
        `WorkerError` with the runtime's own words where it refuses a model, and `WorkerLost` where
        it dies of it.
        """
        under_way = UnderWay()
        source = iter(requests)
        more = True
        try:
            while True:
                while more and under_way.wants_more:
                    try:
                        request = next(source)
                    except StopIteration:
                        more = False
                        break
                    if request is None:
                        break
                    size = 0
                    if not (isinstance(request, Model) and self._is_known(request, under_way)):
                        line = _line(request, warmup, samples)
                        size = len(line)
                        # Where it has ended, its last answers say of which model.
                        with contextlib.suppress(DeviceLost) if under_way else _NOTHING:
                            self._channel.send(line)
                    under_way.add(request, size)
                if not under_way:
                    if more:
                        continue
                    return
                request, place = under_way.next()
                if isinstance(request, Model):
                    if request.key not in self.loaded:
                        self._loaded_one(request.key)
                    yield request.key
                elif place < len(request.visits):
                    key, repeats = request.visits[place]
                    answer = self._answer(inferences=warmup + samples)
                    self._expect(answer, "visit", f"cannot measure {key}")
                    yield self._visit(answer, key, repeats, warmup, samples)
                else:
                    yield self._round(self._answer())
        finally:
            # Whoever stops early, or meets a model that is refused, finds no answers of others.
            for key in under_way.keys_alone():
                if not self._broken and key not in self.loaded:
                    with contextlib.suppress(WorkerError, DeviceError):
                        self._loaded_one(key)

    def _is_known(self, model: Model, under_way: UnderWay) -> bool:
        return model.key in self.loaded or under_way.loads(model.key)

    def _loaded_one(self, key: str) -> None:
        """Wait for a model that was sent."""
        try:
            answer = self._answer()
        except DeviceLost as error:
            raise WorkerLost(
                f"the runtime on {self._device.name} ended while it loaded {key} ({error}); the "
                "model may be damaged, or need operators that this runtime does not have, or the "
                "board's memory may be full",
                out_of_memory=error.killed,
            ) from error
        if str(answer.get("error")).startswith("MemoryError"):
            raise WorkerLost(
                f"the memory of {self._device.name} is full: {key} does not fit; end other work "
                "on the board and run the same command again",
                out_of_memory=True,
            )
        self._expect(answer, "loaded", f"cannot load {key}")
        self.loaded.add(key)

    def _round(self, answer: dict[str, Any]) -> Round:
        self._expect(answer, "done", "cannot finish the round")
        try:
            wall, inside = finite_numbers([answer["wall"], answer["inside"]])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise self._foreign(_words(answer)) from None
        return Round(wall, inside, self._state(answer))

    def predict(self, key: str, images: FloatArray, *, batch: int = 64) -> FloatArray:
        """Run a loaded model on images `[n, ...]` one by one; return its outputs `[n, values]`.

        There must be at least one image. Raises `WorkerError` where the runtime refuses them.
        """
        outputs: list[FloatArray] = []
        for begin in range(0, len(images), batch):
            group = np.ascontiguousarray(images[begin : begin + batch], np.float32)
            inputs = [base64.b64encode(image.tobytes()).decode("ascii") for image in group]
            self._send({"do": "predict", "model": key, "inputs": inputs})
            answer = self._answer(inferences=len(group))
            self._expect(answer, "outputs", f"cannot run {key}")
            try:
                texts = list(answer["outputs"])
                outputs += [np.frombuffer(base64.b64decode(text), np.float32) for text in texts]
                if len(texts) != len(group) or len({len(output) for output in outputs}) != 1:
                    raise ValueError("as many outputs as images, all of one size, were expected")
            except (TypeError, ValueError, OverflowError):
                raise self._foreign(_words(answer)) from None
        return np.stack(outputs)

    def placements(self, keys: Sequence[str]) -> list[Placement]:
        """Which operators of loaded models run outside of the delegate, where that is known."""
        for key in keys:
            self._send({"do": "placement", "model": key})
        found = []
        for key in keys:
            answer = self._answer()
            self._expect(answer, "outside", f"cannot tell the placement of {key}")
            try:
                found.append(read_placement(answer["outside"]))
            except ValueError:
                raise self._foreign(_words(answer)) from None
        return found

    def operators(self, key: str, runs: int, seconds: float = 0.0) -> OperatorProfile:
        """The time of each operator of a loaded model in that many runs of the whole, one of which
        takes so many seconds.

        Raises `WorkerError` where the runtime cannot tell, or dies of it.
        """
        self._send({"do": "operators", "model": key, "runs": runs})
        inferences = 2 * (runs + 2)  # with the profiler and without, and a few to warm up
        try:
            # Timing each operator may cost as much again as the operators.
            answer = self._answer(inferences=inferences, slowest=2 * seconds)
        except DeviceLost as error:
            raise WorkerError(
                f"the runtime on {self._device.name} ended while it timed the operators of {key} "
                f"({error}); go without --operators there"
            ) from error
        self._expect(answer, "operators", f"cannot time the operators of {key}")
        try:
            found = read_operators(answer)
            if found.runs != runs:
                raise ValueError(f"{found.runs} runs instead of {runs}")
        except ValueError:
            raise self._foreign(_words(answer)) from None
        return found

    def conditions(self) -> dict[str, float]:
        """The board's state just now: frequency in Hz, temperature in degrees Celsius, load; `at`
        is the board's monotonic clock, `waited` the seconds of those that the worker has `lived`
        in which it had nothing to do, or nobody took what it had to say."""
        self._send({"do": "conditions"})
        answer = self._answer()
        self._expect(answer, "conditions", "cannot read the board's state")
        return self._state(answer)

    def _state(self, answer: dict[str, Any]) -> dict[str, float]:
        try:
            found = dict(answer["conditions"])
            return dict(zip(map(str, found), finite_numbers(found.values()), strict=True))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise self._foreign(_words(answer)) from None

    def _send(self, request: dict[str, Any]) -> None:
        self._channel.send(json.dumps(request).encode())

    def _answer(self, *, inferences: int = 0, slowest: float = SLOWEST_INFERENCE) -> dict[str, Any]:
        """The next answer, before which the worker runs so many inferences."""
        timeout = max(ANSWER_TIMEOUT, inferences * slowest)
        try:
            line = self._channel.receive(timeout=timeout)
        except DeviceTimeout:
            self._broken = True
            raise WorkerLost(
                f"the worker on {self._device.name} has not answered for {timeout:.0f} s and was "
                "ended; what was measured is kept: run the same command again to go on. Models "
                f"that take more than {SLOWEST_INFERENCE:.0f} s an inference cannot be measured"
            ) from None
        except DeviceError:
            self._broken = True
            raise
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
            raise self._foreign(_words(answer))

    def _visit(
        self, answer: dict[str, Any], key: str, repeats: int, warmup: int, samples: int
    ) -> Visit:
        try:
            visit = read_visit(answer, key, repeats, warmup, samples)
        except ValueError:
            raise self._foreign(_words(answer)) from None
        if visit.at < self._latest:
            self._broken = True
            raise WorkerError(
                f"the clock of {self._device.name} went back by {self._latest - visit.at:.3g} s: "
                "no time that it measures can be believed. Whatever sets it (a virtual machine "
                "that moved, a kernel without a monotonic clock) has to stop; what was measured "
                "before is kept: run the same command again to go on"
            )
        self._latest = visit.at
        return visit

    def _foreign(self, line: str) -> WorkerError:
        self._broken = True
        return WorkerError(
            f"the worker on {self._device.name} broke its protocol with the line {line[:200]!r}; "
            "what was measured is kept: run the same command again to go on"
        )


def _line(request: Model | VisitRequest, warmup: int, samples: int) -> bytes:
    """A request as the worker reads it."""
    content: dict[str, object]
    if isinstance(request, Model):
        pieces = request.pieces or compact(request.emit())
        content = {"do": "load", "model": request.key, "data": pieces}
    else:
        content = {"do": "measure", "round": request.number, "warmup": warmup, "samples": samples}
        content["visits"] = [list(visit) for visit in request.visits]
    return json.dumps(content).encode()


def _words(answer: dict[str, Any]) -> str:
    """An answer as it may stand in an error; one may be nested deeper than JSON can be written."""
    try:
        return json.dumps(answer)
    except (RecursionError, ValueError):
        return "an answer that is nested too deep"
