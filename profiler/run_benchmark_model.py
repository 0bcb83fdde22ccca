"""TFLite's `benchmark_model` on a board without Python, as if it were our worker.

The program is pushed once by the hash of its bytes, and so is each model. An invocation is short:
it loads one model, warms up and runs it a few times, so that it is one visit; many are visited in
turns (see `run_programs.py`). A visit costs a process, tens of milliseconds, whatever the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from ..devices.base import Device
from ..devices.errors import BoardfitError, InputError, WorkerError, WorkerLost
from .layers import FloatArray
from .model_format import BENCHMARK_MODEL
from .operators import UNKNOWN, OperatorProfile, OperatorTime, Placement
from .program_file import check_architecture, read_program
from .read_benchmark_model import (
    MICROSECOND,
    BenchmarkOutput,
    ToolOperator,
    parse_benchmark_model,
    words_of_failure,
)
from .read_tflite import inspect
from .run_litert import SLOWEST_INFERENCE
from .run_programs import Ended, ProgramDriver, Run, answer_with_programs, crashed
from .verified_files import digests, push_bytes, require_digests
from .visits import Model, Round, Streams, Visit, VisitRequest
from .worker_operators import assign

DELEGATES = {"xnnpack": "--use_xnnpack=true", "gpu": "--use_gpu=true", "nnapi": "--use_nnapi=true"}
# Shorter inferences are told by their mean: the tool rounds each of them to whole microseconds.
CLEAR = 500 * MICROSECOND
EACH_KNOWN = 3  # inferences of which every one follows from what is printed
_PHASE_SECONDS = 60  # after which the tool begins no further inference
_SETUP_SECONDS = 120.0  # to load a model; a GPU's delegate compiles its kernels
_OPERATOR_INVOCATIONS = 5  # with the tool's profiler, in turns with as many without it
_COMMAND_TIMEOUT = 60.0  # seconds


class BenchmarkModelSession(Streams):
    """Invocations of `benchmark_model` on a board; a context manager that ends what runs.

    A visit's `seconds` hold what can be known of one invocation. Where an inference takes `CLEAR`
    or more: each single inference, at most `EACH_KNOWN`, fewer than were asked for. Where it takes
    less: one sample, the mean of all its inferences, which are the visit's `repeats`; the smallest
    single one is known to a whole microsecond only, which would be off by half of a short operator.
    `warmup` are the inferences before. Raises `InputError` where there is no program, or one for
    another processor, `StorageError` where it does not fit on the board, and `WorkerError`.
    """

    reference_interval = 25  # visits take tens of milliseconds, the board's slow states seconds
    most_samples = EACH_KNOWN
    clock_resolution = MICROSECOND

    def __init__(self, device: Device, *, threads: int = 1, runtime: str = BENCHMARK_MODEL) -> None:
        self._device = device
        self._delegate = delegate_of(runtime)
        self._threads = threads
        self._models = device.workspace / "models"
        self._files: dict[str, str] = {}  # the file of each model that is loaded
        self._bytes: dict[str, bytes] = {}
        program = self._push_program()
        core = device.core if threads == 1 else None  # several threads need several cores
        limit = _SETUP_SECONDS + 2 * _PHASE_SECONDS + 2 * SLOWEST_INFERENCE
        self._driver = ProgramDriver(device, program, self._models, limit=limit, core=core)
        plain = self._delegate == "xnnpack"
        self.hello: dict[str, object] = {
            "runtime": BENCHMARK_MODEL if plain else f"{BENCHMARK_MODEL}:{self._delegate}",
            "version": program.parent.name.rpartition("-")[2],  # it has none but its bytes
            "threads": threads,
            "core": core,
            "clock_resolution": MICROSECOND,
        }
        try:
            self._there = digests(device.transport, self._models)
        except BaseException:
            self._driver.close()
            raise

    def __enter__(self) -> BenchmarkModelSession:
        return self

    def __exit__(self, *reason: object) -> None:
        self._driver.close()

    @property
    def loaded(self) -> set[str]:
        """The keys of the models that lie on the board."""
        return set(self._files)

    def _push_program(self) -> PurePosixPath:
        path = self._device.benchmark_model
        if path is None:
            raise InputError(
                f"{self._device.name} has no benchmark_model: give --benchmark-model PATH, or "
                "benchmark_model in boards.toml (a build for the board's processor, from "
                "https://www.tensorflow.org/lite/performance/measurement)"
            )
        data = read_program(path.expanduser())
        check_architecture(path, data, self._device.description.machine, self._device.name)
        digest = hashlib.sha256(data).hexdigest()
        folder = self._device.workspace / f"benchmark-{digest[:16]}"
        remote = folder / "benchmark_model"
        transport = self._device.transport
        if digests(transport, folder).get(remote.name) != digest:
            push_bytes(transport, data, remote)
            require_digests(transport, folder, {remote.name: digest}, self._device.name)
        transport.run(["chmod", "700", str(folder), str(remote)], timeout=_COMMAND_TIMEOUT).check()
        return remote

    def load(self, models: Iterable[Model]) -> Iterator[str]:
        """Push the models that are not on the board yet; yield the key of each.

        Raises `StorageError` where they do not fit, or did not arrive whole.
        """
        pushed: dict[str, str] = {}
        for model in models:
            if model.key not in self._files:
                data = model.emit()
                digest = hashlib.sha256(data).hexdigest()
                name = f"{digest[:32]}.tflite"
                if self._there.get(name) != digest:
                    push_bytes(self._device.transport, data, self._models / name)
                    self._there[name] = pushed[name] = digest
                self._files[model.key] = name
            yield model.key
        if pushed:
            require_digests(self._device.transport, self._models, pushed, self._device.name)

    def load_one(self, model: Model) -> None:
        """Push one model. Raises what `load` raises."""
        if model.key not in self._files:
            data = model.emit()
            self._bytes[model.key] = data  # by which its operators are told apart
            for _ in self.load([Model(model.key, lambda: data)]):
                pass

    def unload(self) -> None:
        """Remove the models from the board, to stay within its space."""
        names = sorted(set(self._files.values()))
        for begin in range(0, len(names), 500):  # a command may not be endless
            paths = [str(self._models / name) for name in names[begin : begin + 500]]
            self._device.transport.run(["rm", "-f", *paths], timeout=_COMMAND_TIMEOUT).check()
        for name in names:
            self._there.pop(name, None)
        self._files.clear()
        self._bytes.clear()

    def stream(
        self,
        requests: Iterable[Model | VisitRequest | None],
        *,
        warmup: int = 1,
        samples: int = 2,
    ) -> Iterator[str | Visit | Round]:
        """Answer one request after the other (see `WorkerSession.stream`).

        A sample of several repeats is put together from as many inferences of one invocation. Each
        begins with `EACH_KNOWN` inferences to warm up, since it is a fresh process. Raises
        `WorkerError` with the tool's words where it refuses a model, and `WorkerLost` where it
        crashes or hangs.
        """

        yield from answer_with_programs(
            self._driver,
            requests,
            self.load,
            lambda key, repeats: self._run(key, _inferences(repeats, samples)),
            lambda key, _, ended: self._visit(key, ended),
        )

    def _run(self, key: str, inferences: int, *more: str) -> Run:
        return Run(
            (
                f"--graph={self._files[key]}",
                f"--num_threads={self._threads}",
                DELEGATES[self._delegate],
                f"--num_runs={inferences}",
                "--min_secs=0",
                f"--warmup_runs={EACH_KNOWN}",
                "--warmup_min_secs=0",
                f"--max_secs={_PHASE_SECONDS}",
                *more,
            )
        )

    def _visit(self, key: str, ended: Ended) -> Visit:
        """What an invocation says."""
        output = self._output(key, ended)
        found = output.inference
        warm = output.warmup
        warmup = () if warm is None else warm.each or (warm.mean,)
        if found.least >= CLEAR and found.each:
            return Visit(key, ended.at, warmup, found.each, 1)
        mean = found.mean
        if mean <= 0:
            if found.count > EACH_KNOWN:
                raise WorkerError(
                    f"{found.count} inferences of {key} on {self._device.name} took less than a "
                    "microsecond each, which is what benchmark_model counts: it cannot be measured "
                    "there"
                )
            mean = MICROSECOND / 2  # it only finds how many are needed
        return Visit(key, ended.at, warmup, (mean,), found.count)

    def _output(self, key: str, ended: Ended) -> BenchmarkOutput:
        name = self._device.name
        words = words_of_failure(ended.output)
        if (signal := crashed(ended.code)) is not None:
            how = f"benchmark_model on {name} was ended by {signal} while it ran {key}"
            if signal == "SIGILL":
                raise WorkerError(
                    f"{how}: it holds instructions that this processor lacks; give "
                    f"--benchmark-model another build. Its last words: {words}"
                )
            raise WorkerLost(
                f"{how}; the model may need operators that this build does not have, or the "
                f"board's memory may be full. Its last words: {words}"
            )
        if ended.code in (126, 127):
            raise WorkerError(
                f"benchmark_model cannot be run on {name} ({words}); it may be a build for another "
                "system, or the workspace may not allow programs: give another --benchmark-model, "
                "or another `workspace` in boards.toml"
            )
        if ended.code != 0:
            raise WorkerError(
                f"benchmark_model on {name} cannot run {key} (exit code {ended.code}): {words}"
            )
        try:
            output = parse_benchmark_model(ended.output)
        except WorkerError as error:
            raise WorkerError(f"{key} on {name}: {error}") from error
        option = DELEGATES[self._delegate].partition("=")[0]
        if any(flag.startswith(option) for flag in output.refused):
            raise WorkerError(
                f"this benchmark_model does not know {option}, so that {key} ran without the "
                f"delegate {self._delegate}; give --benchmark-model a newer build, or another "
                "--runtime"
            )
        if output.unsupported:
            raise WorkerError(
                f"this benchmark_model has no delegate {self._delegate} on {name}: {words}; give "
                f"--benchmark-model another build, or --runtime {BENCHMARK_MODEL}"
            )
        return output

    def predict(self, key: str, images: FloatArray, *, batch: int = 64) -> FloatArray:
        """Raises `WorkerError`: the tool gives no outputs."""
        raise WorkerError(
            f"benchmark_model on {self._device.name} times models and gives no outputs; compare "
            "them on a board with Python"
        )

    def placements(self, keys: Sequence[str]) -> list[Placement]:
        """Which operators of models run outside of the delegate, where the tool says so."""
        runs = [self._run(key, 1, "--enable_op_profiling=true") for key in keys]
        return [
            self._placement(key, ended)
            for key, ended in zip(keys, self._driver.each(runs), strict=True)
            if isinstance(ended, Ended)
        ]

    def _placement(self, key: str, ended: Ended) -> Placement:
        output = self._output(key, ended)
        if output.share == "whole":
            return Placement(())
        if output.share is None:
            return UNKNOWN
        left = {o.index: o.kind.lower() for o in output.operators if _is_outside(o)}
        if output.share == "none" and not left:
            raise WorkerError(
                f"the delegate {self._delegate} on {self._device.name} runs nothing of {key}, and "
                "which kernels do is not told; give another --runtime"
            )
        return Placement(tuple(sorted(left.items()))) if left else UNKNOWN

    def operators(self, key: str, runs: int, seconds: float = 0.0) -> OperatorProfile:
        """The time of each operator of a model, in invocations with the tool's profiler in turns
        with others without it; each value is the mean of an invocation.

        Raises `WorkerError` where the tool lists no operators.
        """
        count = min(_OPERATOR_INVOCATIONS, runs)
        each = max(1, runs // count)
        profiled_run = self._run(key, each, "--enable_op_profiling=true")
        answers = self._driver.each([profiled_run, self._run(key, each)] * count)
        outputs = [self._output(key, answer) for answer in answers if isinstance(answer, Ended)]
        profiled, plain = outputs[::2], outputs[1::2]
        rows = [_told(output.operators) for output in profiled]
        if not rows[0] or any(
            [(o.kind, o.name) for o in row] != [(o.kind, o.name) for o in rows[0]] for row in rows
        ):
            raise WorkerError(
                f"benchmark_model on {self._device.name} does not tell the operators of {key} "
                "apart; go without --operators there"
            )
        places = self._places(key, rows[0], profiled[0].share)
        try:
            return OperatorProfile(
                tuple(
                    OperatorTime(
                        operator.kind if operator.inside else operator.kind.lower(),
                        kind,
                        index,
                        self._delegate if operator.inside or _is_delegate(operator) else None,
                        tuple(row[position].seconds for row in rows),
                    )
                    for position, (operator, (kind, index)) in enumerate(
                        zip(rows[0], places, strict=True)
                    )
                ),
                tuple(output.inference.mean for output in profiled),
                tuple(output.inference.mean for output in plain),
            )
        except ValueError as error:
            raise WorkerError(
                f"benchmark_model on {self._device.name} printed times of {key} that cannot be "
                f"({error}); go without --operators there"
            ) from error

    def _places(
        self, key: str, rows: Sequence[ToolOperator], share: str | None
    ) -> list[tuple[str, int]]:
        """The kind and the index of the model's operator that each row is; "" and -1 where that is
        not known. Inside of a delegate it is, where it runs the whole model."""
        found = [(row.kind.lower(), row.index) if _is_outside(row) else ("", -1) for row in rows]
        data = self._bytes.get(key)
        if share != "whole" or data is None or not all(row.inside for row in rows):
            return found
        try:
            kinds = [operator.name for operator in inspect(data).operators]
        except BoardfitError:
            return found
        positions = assign(kinds, [row.kind for row in rows])
        if positions is None:
            return found
        seen: set[int] = set()
        for row, position in enumerate(positions):
            if position not in seen:  # an activation behind it stands under its own name
                found[row] = kinds[position], position
                seen.add(position)
        return found

    def conditions(self) -> dict[str, float]:
        """The board's state just now, as `WorkerSession.conditions` has it."""
        return self._driver.state()


def delegate_of(runtime: str) -> str:
    """The delegate in a runtime's name, `benchmark_model:gpu` say. Raises `InputError`."""
    name = runtime.partition(":")[2] or "xnnpack"
    if name not in DELEGATES:
        raise InputError(
            f"benchmark_model has no delegate {name!r}; give {BENCHMARK_MODEL}:"
            f"{f', {BENCHMARK_MODEL}:'.join(DELEGATES)}"
        )
    return name


def _inferences(repeats: int, samples: int) -> int:
    """How many inferences an invocation times."""
    return repeats * samples if repeats > 1 else min(samples, EACH_KNOWN)


def _is_delegate(operator: ToolOperator) -> bool:
    """Whether a row stands for all that a delegate runs together."""
    return "delegate" in operator.kind.lower()


def _is_outside(operator: ToolOperator) -> bool:
    """Whether a row is an operator of the model that no delegate runs."""
    return not operator.inside and operator.index >= 0 and not _is_delegate(operator)


def _told(operators: Sequence[ToolOperator]) -> list[ToolOperator]:
    """The rows without those that others are the parts of: where the delegate tells what it ran,
    its own row is their sum."""
    detailed = any(operator.inside for operator in operators)
    return [operator for operator in operators if not (detailed and _is_delegate(operator))]
