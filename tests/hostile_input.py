"""What boardfit does with spoilt files and lines: a named error or a usable result, soon, and
nothing else. Shared by a quick test and by benchmarks, which try many more cases."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from boardfit.devices.base import Channel, Device
from boardfit.devices.conditions import describe
from boardfit.devices.errors import BoardfitError
from boardfit.devices.fake import FakeTransport, ProgramExit
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.profile_model import open_profile, profile_model
from boardfit.profiler.read_tflite import inspect
from boardfit.profiler.run_litert import WorkerSession
from boardfit.profiler.simulated import SimulatedWorker
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.visits import Model
from boardfit.profiler.worker_files import WORKER_FILE
from boardfit.reports.sources import open_source

from . import hostile_adb
from .hostile_shell import spoilt_sessions
from .hostile_tools import SUBJECTS as TOOLS
from .hostile_tools import read_inventory, read_text
from .mutations import mutate_database, mutate_line, mutate_model
from .program_outputs import OUTPUTS
from .small_board import QUICK, board, small_network

TIME_LIMIT = 10.0  # seconds of a case; what it does takes milliseconds
PLAN = TablePlan(
    tuple(layer for filters in (8, 16) for layer in small_network(filters).layers),
    (small_network(8),),
    (small_network(16),),
    {"space": "tiny"},
)


class TookTooLong(BaseException):
    """Raised into a case by the alarm; no handler of ours catches it."""


@contextlib.contextmanager
def time_limit(seconds: float = TIME_LIMIT) -> Iterator[None]:
    """Interrupt what runs inside after so many seconds, and fail where it went on regardless."""

    def ring(number: int, frame: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    begin = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - begin > seconds:
        raise TookTooLong


class Watch:
    """Sees what a process does beyond computing: programs, modules, code, files that are written.

    An audit hook of Python cannot be taken away again, so there is one, which is switched.
    """

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Fail for whatever is done inside, except for files below `folder`."""
        self.folder, self.seen = str(folder), []
        try:
            yield
        finally:
            self.folder = None
        assert not self.seen, self.seen

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in {
            *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"),
            *("pickle.find_class", "socket.connect", "urllib.Request"),
            *("sqlite3.enable_load_extension", "sqlite3.load_extension"),
        }:
            self.seen.append(f"{event} {arguments!r:.200}")
        if event == "import" and arguments[0].split(".")[0] not in _ROOTS:
            self.seen.append(f"import {arguments[0]}")
        if event == "open" and isinstance(arguments[2], int):
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not str(arguments[0]).startswith((self.folder, "/dev/")):
                self.seen.append(f"open {arguments[0]!r:.200}")


# Modules that may be loaded late; a name from a file is none of them.
_ROOTS = frozenset(
    {"boardfit", "numpy", "pandas", "encodings", "ai_edge_litert", "unicodedata", *sys.modules}
)


@dataclass
class Tally:
    """How the cases ended, by the name of the error ("used": there was none)."""

    endings: dict[str, int] = field(default_factory=dict)
    longest: float = 0.0

    def add(self, ending: str, seconds: float) -> None:
        """Count a case."""
        self.endings[ending] = self.endings.get(ending, 0) + 1
        self.longest = max(self.longest, seconds)

    def join(self, other: Tally) -> None:
        """Add another's counts."""
        for ending, count in other.endings.items():
            self.endings[ending] = self.endings.get(ending, 0) + count
        self.longest = max(self.longest, other.longest)


# What a case does; it may say how it ended, which is "used" without.
Subject = Callable[[random.Random, Path], str | None]


def try_cases(
    subject: str, numbers: range, folder: Path, watch: Watch, seed: int = 0
) -> tuple[Tally, list[str]]:
    """Try the cases of these numbers; the second value describes those that went wrong."""
    tally, wrong = Tally(), []
    use = SUBJECTS[subject]
    for number in numbers:
        rng = random.Random(f"{seed} {subject} {number}")
        begin = time.monotonic()
        try:
            with watch.over(folder), time_limit():
                ending = _ending(use, rng, folder)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            ending = "wrong"
            wrong.append(f"{subject} {number} (seed {seed}): {type(error).__name__}: {error}"[:500])
        tally.add(ending, time.monotonic() - begin)
    litter = {path.name for path in folder.iterdir()} - _OURS
    if litter:
        wrong.append(f"{subject} {numbers}: wrote {sorted(litter)}")
    return tally, wrong


def _ending(use: Subject, rng: random.Random, folder: Path) -> str:
    try:
        return use(rng, folder) or "used"
    except BoardfitError as error:
        words = str(error)
        assert words, "an error without words"
        assert len(words) < 3000, f"a message of {len(words)} letters"
        return type(error).__name__


_OURS = {"table", "profile", "model.tflite", "case", "case.lock", "case-wal", "case-shm"}


def prepare(folder: Path) -> None:
    """Make the sound files that the cases begin with: a table, a profile, a model."""
    build_table(folder / "table", board(), PLAN, QUICK)
    LookupTable.open(folder / "table").frame()  # loads pandas
    model = folder / "model.tflite"
    model.write_bytes(MODELS[0])
    profile_model(model, board(), QUICK, out=folder / "profile")
    for path in folder.glob("*.lock"):
        path.unlink()


def _case(folder: Path, name: str, rng: random.Random) -> Path:
    path = folder / "case"
    for ending in ("-wal", "-shm", "-journal"):
        path.with_name(f"case{ending}").unlink(missing_ok=True)
    shutil.copyfile(folder / name, path)
    mutate_database(path, rng)
    return path


def table_file(rng: random.Random, folder: Path) -> None:
    """Open a spoilt table, and use what it says."""
    path = _case(folder, "table", rng)
    for use in (_read_table, open_source):
        with contextlib.suppress(BoardfitError):
            use(path)
    if rng.random() < 0.1:
        build_table(path, board(), PLAN, QUICK)
    _read_table(path)


def _read_table(path: Path) -> None:
    table = LookupTable.open(path)
    seconds = table.frame()["seconds"].to_numpy(float)
    assert ((seconds >= 0) & (seconds < math.inf)).all()
    for _, network, runs in table.networks.values():
        assert (runs > 0).all()
        with contextlib.suppress(BoardfitError):
            estimate = table.latency(network)
            assert math.isfinite(estimate.seconds), estimate
    table.check()


def profile_file(rng: random.Random, folder: Path) -> None:
    """Open a spoilt profile, and use what it says."""
    path = _case(folder, "profile", rng)
    with contextlib.suppress(BoardfitError):
        open_source(path)
    if rng.random() < 0.05:
        profile_model(folder / "model.tflite", board(), QUICK, out=path)
    profile = open_profile(path)
    assert profile.measurement.minimum > 0
    assert profile.measurement.verdict
    assert profile.model.operator_counts is not None
    assert profile.model.parameters >= 0


def _model(*widths: int) -> bytes:
    builder = NetworkBuilder((8, 8, 3))
    x = 0
    for width in widths:
        x = builder.conv_2d(x, width, kernel=3, stride=2, activation="relu")
        x = builder.add(x, builder.depthwise_conv_2d(x, kernel=3))
    x = builder.concatenation([x, builder.slice_channels(x, 1, 3)])
    builder.elementwise(
        "softmax", builder.fully_connected(builder.mean(x, keep_dimensions=False), 2)
    )
    return emit(builder.build())


MODELS = (_model(4), _model(4, 6), _model(3, 4, 5))


def model_file(rng: random.Random, folder: Path) -> None:
    """Look into a spoilt model; a few are measured on the simulated board as well."""
    data = mutate_model(rng.choice(MODELS), rng)
    if rng.random() < 0.01:
        path = folder / "case"
        path.write_bytes(data)
        profile_model(path, board(), QUICK)
        return
    info = inspect(data)
    assert info.parameters >= 0
    assert sum(info.operator_counts.values()) == len(info.operators)


class Spoilt:
    """The simulated worker, some of whose lines arrive otherwise than it wrote them."""

    def __init__(self, rng: random.Random, share: float) -> None:
        self._worker = SimulatedWorker()
        self._rng = rng
        self._share = share
        self.spoilt = 0

    def start(self) -> Iterator[bytes]:
        """The hello, perhaps spoilt."""
        yield from map(self._spoil, self._worker.start())

    def handle(self, line: bytes) -> Iterator[bytes]:
        """The answers; one may be missing, come twice, or another program may have ended."""
        for answer in self._worker.handle(line):
            if self._rng.random() < self._share / 10:
                raise ProgramExit(self._rng.choice([0, 1, 139]), "Segmentation fault\0\x1b[31m")
            if self._rng.random() < self._share / 10:
                continue
            for _ in range(2 if self._rng.random() < self._share / 10 else 1):
                yield self._spoil(answer)

    def _spoil(self, line: bytes) -> bytes:
        if self._rng.random() >= self._share:
            return line
        self.spoilt += 1
        return mutate_line(line, self._rng)


def spoilt_board(rng: random.Random, share: float) -> Device:
    """A simulated board whose worker says strange things."""
    transport = FakeTransport(programs={"python3": lambda: Spoilt(rng, share)})
    workspace = PurePosixPath("/boardfit")
    return Device("odd", "fake", transport, describe(transport), "python3", workspace, 0)


def worker_lines(rng: random.Random, folder: Path) -> None:
    """Talk to a worker that answers otherwise than it should."""
    keys = [f"m{i}" for i in range(len(MODELS))]
    models = [Model(key, partial(bytes, data)) for key, data in zip(keys, MODELS, strict=True)]
    with WorkerSession(spoilt_board(rng, rng.choice([0.1, 0.3]))) as session:
        assert list(session.load(models)) == keys
        for _ in range(2):
            for answer in session.measure([(key, rng.choice([1, 3])) for key in keys]):
                if hasattr(answer, "seconds"):
                    assert all(0 < value < 1e10 for value in answer.seconds)
        session.conditions()
        session.unload()


def campaign_lines(rng: random.Random, folder: Path) -> None:
    """A small campaign with such a worker; what it stored can be read, whatever came."""
    path = folder / "case"
    path.unlink(missing_ok=True)
    try:
        table = build_table(path, spoilt_board(rng, rng.choice([0.001, 0.01, 0.05])), PLAN, QUICK)
        assert all(operator.seconds > 0 for operator in table.operators.values())
    finally:
        if path.exists():
            with Store.open(path) as store:
                assert (store.visits(probes=True).seconds > 0).all()
                json.dumps(store.evidence(), allow_nan=False)


class RequestLog:
    """A transport that remembers the lines which the host sends."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.lines: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self, argv: Any) -> Any:
        """Start a program whose input is remembered."""
        channel = self._inner.open(argv)
        send = channel.send

        def logged(line: bytes) -> None:
            self.lines.append(line)
            send(line)

        channel.send = logged
        return channel


def requests() -> list[bytes]:
    """One of each line that a host sends to a worker."""
    device = board()
    log = RequestLog(device.transport)
    with WorkerSession(replace(device, transport=log)) as session:
        list(session.load([Model("m", lambda: MODELS[0])]))
        list(session.measure([("m", 1), ("m", 2)]))
        with contextlib.suppress(BoardfitError):
            session.predict("m", np.zeros((1, 8, 8, 3), np.float32))
        session.conditions()
        session.unload()
    return log.lines


@contextlib.contextmanager
def real_worker() -> Iterator[Channel]:
    """A worker process of this machine without a session."""
    device = connect("local")
    remote = device.workspace / "worker.py"
    device.transport.push(WORKER_FILE, remote)
    assert device.python is not None
    channel = device.transport.open([device.python, str(remote)])
    assert json.loads(channel.receive(timeout=30))["hello"] == "boardfit worker"
    try:
        yield channel
    finally:
        device.transport.close()


def _output(name: str, rng: random.Random, folder: Path) -> None:
    OUTPUTS[name](rng)


def _tool(name: str, rng: random.Random, folder: Path) -> str:
    return read_text(name, rng)


SUBJECTS: Mapping[str, Subject] = {
    "table files": table_file,
    "profile files": profile_file,
    "model files": model_file,
    "worker lines": worker_lines,
    "campaigns": campaign_lines,
    **{name: partial(_output, name) for name in OUTPUTS},
    "tool sessions": spoilt_sessions,
    **{f"{name} texts": partial(_tool, name) for name in TOOLS},
    "inventories": read_inventory,
    "adb servers": hostile_adb.adb_server,
    "adb frames": hostile_adb.adb_frames,
    "adb shells": hostile_adb.adb_shell,
    "adb files": hostile_adb.adb_files,
}
