"""TensorRT's `trtexec` on a board (a Jetson, a PC with a GPU), as if it were our worker.

Models go there as ONNX. An engine is built once for each model and version of TensorRT, which
takes seconds, and is kept on the board. A visit loads an engine in a fresh process and takes the
GPU's own times of single inferences, without the transfers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from ..devices.base import Device
from ..devices.errors import InputError, WorkerError, WorkerLost
from .layers import FloatArray
from .model_format import TRTEXEC
from .operators import OperatorProfile, OperatorTime, Placement
from .read_trtexec import (
    parse_profile,
    parse_summary,
    parse_times,
    parse_version,
    words_of_failure,
)
from .run_programs import Ended, ProgramDriver, Run, answer_with_programs, crashed
from .verified_files import digests, push_bytes, require_digests
from .visits import Model, Round, Streams, Visit, VisitRequest

_LIMIT = 900.0  # seconds; a large engine takes minutes to build on a small board
_COMMAND_TIMEOUT = 60.0  # seconds; the first start reads hundreds of megabytes of libraries
_MOST_INFERENCES = 4000  # of a visit; each has half a kilobyte in the file of times
_WARM_UP = 200  # milliseconds before each visit: the GPU raises its clock meanwhile
_TIMES, _PROFILE = "times.json", "profile.json"
_OPERATOR_INVOCATIONS = 3
# JetPack puts it outside of the path. Fixed words: nothing from outside is in them.
_FIND = (
    "command -v trtexec && exit; "
    "for p in /usr/src/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec; do "
    'test -x "$p" && echo "$p" && exit 0; done; exit 1'
)


class TrtexecSession(Streams):
    """Runs of `trtexec` on a board; a context manager that ends what runs.

    A visit's `seconds` are the GPU's times of inferences, put together where a sample has several
    repeats. `warmup` is empty: trtexec warms up by time and keeps no values of it. Raises
    `InputError` where the board has no trtexec, and `WorkerError`.
    """

    reference_interval = 10  # a visit takes a second: TensorRT's libraries are loaded each time
    most_samples = 200
    clock_resolution = 1e-6  # of CUDA's events, in seconds

    def __init__(self, device: Device, *, threads: int = 1) -> None:
        self._device = device
        self._folder = device.workspace / "engines"
        self._files: dict[str, str] = {}  # the engine of each model that is loaded
        transport = device.transport
        found = transport.run(["sh", "-c", _FIND], timeout=_COMMAND_TIMEOUT)
        place = found.stdout.decode(errors="replace").strip().partition("\n")[0]
        if found.code != 0 or not place.startswith("/"):
            raise InputError(
                f"{device.name} has no trtexec, neither in its path nor in /usr/src/tensorrt/bin: "
                "install TensorRT there (JetPack has it), or give another --runtime"
            )
        program = PurePosixPath(place)
        said = transport.run([place, "--help"], timeout=_COMMAND_TIMEOUT)
        version = parse_version((said.stdout + said.stderr).decode(errors="replace"))
        if version is None:  # of before TensorRT 8; its bytes tell as well
            own = digests(transport, program).get(program.name, "")
            if not own:
                raise WorkerError(
                    f"{place} on {device.name} does not tell TensorRT's version, and cannot be "
                    "read; see what it says to --help there"
                )
            version = own[:16]
        self._version = version
        core = device.core if threads == 1 else None
        self._driver = ProgramDriver(device, program, self._folder, limit=_LIMIT, core=core)
        self.hello: dict[str, object] = {
            "runtime": TRTEXEC,
            "version": version,
            "threads": threads,
            "core": core,
            "clock_resolution": self.clock_resolution,
        }
        try:
            self._there = digests(transport, self._folder)
        except BaseException:
            self._driver.close()
            raise

    def __enter__(self) -> TrtexecSession:
        return self

    def __exit__(self, *reason: object) -> None:
        self._driver.close()

    @property
    def loaded(self) -> set[str]:
        """The keys of the models whose engines lie on the board."""
        return set(self._files)

    def load(self, models: Iterable[Model]) -> Iterator[str]:
        """Build the engines that are not on the board yet; yield the key of each.

        Raises `WorkerError` with TensorRT's words where it refuses a model.
        """
        for model in models:
            if model.key not in self._files:
                self._files[model.key] = self._engine(model)
            yield model.key

    def load_one(self, model: Model) -> None:
        """Build one engine. Raises what `load` raises."""
        for _ in self.load([model]):
            pass

    def _engine(self, model: Model) -> str:
        """The engine's name: by the model's content and the version that built it."""
        data = model.emit()
        digest = hashlib.sha256(data).hexdigest()
        engine = f"{digest[:32]}-{self._version}.engine"
        if engine in self._there:
            return engine
        transport, onnx = self._device.transport, f"{digest[:32]}.onnx"
        push_bytes(transport, data, self._folder / onnx)
        require_digests(transport, self._folder, {onnx: digest}, self._device.name)
        # Options that build only have had three names; a single inference costs nothing.
        arguments = (f"--onnx={onnx}", f"--saveEngine={engine}.part", *_run_options(1, 0))
        try:
            ended = self._driver.one(Run(arguments))
            self._check(ended, f"cannot build an engine of {model.key}")
            self._command("mv", str(self._folder / f"{engine}.part"), str(self._folder / engine))
        finally:
            # It is not needed any more: the engine's name tells what it was built from.
            self._device.transport.run(
                ["rm", "-f", str(self._folder / onnx)], timeout=_COMMAND_TIMEOUT
            )
        self._there[engine] = ""
        return engine

    def unload(self) -> None:
        """Forget the models. Engines stay on the board: building them is what takes time."""
        self._files.clear()

    def stream(
        self,
        requests: Iterable[Model | VisitRequest | None],
        *,
        warmup: int = 1,
        samples: int = 2,
    ) -> Iterator[str | Visit | Round]:
        """Answer one request after the other (see `WorkerSession.stream`).

        Raises `WorkerError` with trtexec's words where a run fails, `WorkerLost` where it crashes.
        """

        yield from answer_with_programs(
            self._driver,
            requests,
            self.load,
            lambda key, repeats: self._run(key, _inferences(repeats, samples)),
            lambda key, repeats, ended: self._visit(key, ended, repeats, samples),
        )

    def _visit(self, key: str, ended: Ended, repeats: int, samples: int) -> Visit:
        """The times of a run, put together to samples."""
        # Old versions write down the warm-up as well, which comes first.
        times = self._times(ended, key)[-_inferences(repeats, samples) :]
        group = max(1, len(times) // samples)
        values = tuple(
            sum(times[begin : begin + group]) / group
            for begin in range(0, len(times) - group + 1, group)
        )
        return Visit(key, ended.at, (), values, group)

    def _run(self, key: str, inferences: int, *more: str) -> Run:
        arguments = (f"--loadEngine={self._files[key]}", *_run_options(inferences, _WARM_UP))
        return Run((*arguments, f"--exportTimes={_TIMES}", *more), _TIMES)

    def _times(self, ended: Ended, key: str) -> tuple[float, ...]:
        self._check(ended, f"cannot run {key}")
        try:
            times = parse_times(ended.file)
            # What it tells people must agree: another file would be an older run's.
            mean = parse_summary(ended.output).mean
        except WorkerError as error:
            raise WorkerError(f"{key} on {self._device.name}: {error}") from error
        if not min(times) * 0.99 - 1e-6 <= mean <= max(times) * 1.01 + 1e-6:
            raise WorkerError(
                f"trtexec on {self._device.name} says that {key} takes {mean:.3g} s on average, "
                "and writes other times; run the same command again"
            )
        return times

    def _check(self, ended: Ended, what: str) -> None:
        words = words_of_failure(ended.output)
        if (signal := crashed(ended.code)) is not None:
            raise WorkerLost(
                f"trtexec on {self._device.name} {what}: it was ended by {signal}; the board's "
                f"memory may be full. Its last words: {words}"
            )
        if ended.code != 0:
            raise WorkerError(
                f"trtexec on {self._device.name} {what} (exit code {ended.code}): {words}"
            )

    def _command(self, *argv: str) -> None:
        self._device.transport.run(argv, timeout=_COMMAND_TIMEOUT).check()

    def predict(self, key: str, images: FloatArray, *, batch: int = 64) -> FloatArray:
        """Raises `WorkerError`: the tool is used for times only."""
        raise WorkerError(
            f"trtexec on {self._device.name} times models and gives no outputs; compare them on a "
            "board with Python"
        )

    def placements(self, keys: Sequence[str]) -> list[Placement]:
        """Nothing is left out: TensorRT builds an engine of the whole model, or none."""
        return [Placement(()) for _ in keys]

    def operators(self, key: str, runs: int, seconds: float = 0.0) -> OperatorProfile:
        """The time of each layer of an engine, which may be many operators in one, in runs with
        TensorRT's profiler in turns with others without it; each value is the mean of a run.

        Raises `WorkerError` where the layers differ from run to run.
        """
        count = min(_OPERATOR_INVOCATIONS, runs)
        each = min(_MOST_INFERENCES, max(1, runs // count))
        arguments = (f"--loadEngine={self._files[key]}", *_run_options(each, _WARM_UP))
        # The profile is made in runs of its own, and the times are those without it.
        profiled = Run(
            (*arguments, "--separateProfileRun", f"--exportProfile={_PROFILE}"), _PROFILE
        )
        answers = [a for a in self._driver.each([profiled, self._run(key, each)] * count)]
        rows = []
        plain = []
        for place, ended in enumerate(answers):
            assert isinstance(ended, Ended)
            if place % 2:
                times = self._times(ended, key)[-each:]
                plain.append(sum(times) / len(times))
            else:
                self._check(ended, f"cannot time the layers of {key}")
                rows.append(parse_profile(ended.file))
        if any([layer.name for layer in row] != [layer.name for layer in rows[0]] for row in rows):
            raise WorkerError(
                f"trtexec on {self._device.name} lists other layers of {key} from run to run; go "
                "without --operators there"
            )
        layers = tuple(
            OperatorTime(layer.name, "", -1, TRTEXEC, tuple(row[position].seconds for row in rows))
            for position, layer in enumerate(rows[0])
        )
        whole = tuple(sum(layer.seconds for layer in row) for row in rows)
        try:
            return OperatorProfile(layers, whole, tuple(plain))
        except ValueError as error:
            raise WorkerError(
                f"trtexec on {self._device.name} wrote times of {key} that cannot be ({error}); go "
                "without --operators there"
            ) from error

    def conditions(self) -> dict[str, float]:
        """The board's state just now, as `WorkerSession.conditions` has it."""
        return self._driver.state()


def _inferences(repeats: int, samples: int) -> int:
    """How many inferences a run times."""
    return min(_MOST_INFERENCES, samples * repeats)


def _run_options(inferences: int, warm_up: int) -> tuple[str, ...]:
    """Exactly so many inferences, after so many milliseconds of warm-up."""
    return (f"--iterations={inferences}", f"--warmUp={warm_up}", "--duration=0", "--avgRuns=1")
